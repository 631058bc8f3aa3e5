"""Which addresses a webhook may reach.

Guards against server-side request forgery: a URL, or a name behind it, that would make this program talk to its own
network on somebody else's behalf.

A name is resolved once, every address of the answer is checked, and the connection goes to exactly these addresses, so
that a second answer of the name server changes nothing. Receivers on the operator's own network are named by network
in `allow_private`. Pure but for `Lookups`.
"""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import msgspec
from yarl import URL

from gateway.core.limits import WEBHOOK_LOOKUPS_MAX
from gateway.core.text import peer_text
from processors.notices.config import Network

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Sequence[str]]
"""Host and port -> addresses as text; blocks; raises OSError."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_6TO4: Final = IPv6Network("2002::/16")
_V4_COMPATIBLE: Final = IPv6Network("::/96")
_V6_GLOBAL: Final = IPv6Network("2000::/3")
"""All that is assigned as global unicast (RFC 4291 section 2.4, IANA); everything outside is special or nobody's."""
_REFUSED: Final = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),
    )
)
"""IANA's special-purpose registries for IPv4 and, inside global unicast, IPv6 (Teredo is in 2001::/23). Written out:
what `is_global` of the standard library says has changed between Python's patch releases."""
_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)")


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses that a connection may go to, all checked, as the name server ordered them."""

    host: str
    port: int
    addresses: tuple[str, ...]


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a receiver may not be reached.

    Attributes:
        why: What is wrong, and what to write.
        is_final: Whether only another configuration helps; else the name server may answer otherwise some day.
    """

    why: str
    is_final: bool


def is_allowed(address: Address, allow_private: Sequence[Network] = ()) -> bool:
    """Return whether a webhook may go to an address: public, or in one of the operator's own networks.

    An IPv6 address that carries an IPv4 address (mapped, compatible, NAT64, 6to4) is as good as the latter.
    """
    inner = _carried(address)
    if inner is not None:
        return is_allowed(inner, allow_private)
    if any(address in network for network in allow_private if network.version == address.version):
        return True
    if isinstance(address, IPv6Address) and (address.scope_id or address not in _V6_GLOBAL):
        return False
    return not any(address in network for network in _REFUSED if network.version == address.version)


def check_url(url: str, allow_private: Sequence[Network] = (), *, insecure: bool = False) -> URL | Refusal:
    """Return the parsed URL if it may be used as far as it says itself, else why not.

    Without `insecure`, `http` is for receivers in the operator's own networks alone, which is only known once the name
    is resolved; here it is refused where there are no such networks. A host of digits in any spelling but four plain
    decimal numbers is refused, because programs disagree about what it means.
    """
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError:
        return _final("the URL cannot be read", "write https://host/path")
    if parsed.scheme not in {"https", "http"} or not host:
        return _final(f"the URL begins with '{peer_text(parsed.scheme)}:'", "write https://host/path")
    if parsed.scheme == "http" and not (allow_private or insecure):
        return _final("the URL is http, which sends alerts in clear text", "write https, allow_private, or insecure")
    if parsed.user is not None or parsed.password is not None:
        return _final("the URL has a user or a password", "give credentials in headers")
    if not port:
        return _final("the URL has port 0", "write the receiver's port")
    raw = parsed.raw_host or ""
    if literal(raw) is None and ("%" in raw or _NUMBER.fullmatch(raw.rstrip(".").rpartition(".")[2])):
        return _final(f"host '{peer_text(host)}' is an unusual spelling of an address", "write 192.0.2.1 or a name")
    return parsed


def check_addresses(
    url: URL, found: Sequence[str], allow_private: Sequence[Network] = (), *, insecure: bool = False
) -> Checked | Refusal:
    """Return the addresses to connect to if every one of them may be reached, else why not."""
    host = url.raw_host or ""
    is_final = literal(host) is not None
    if not found:
        return Refusal(why=f"{peer_text(host)} has no address", is_final=False)
    for text in found:
        address = ip_address(text)
        if not is_allowed(address, allow_private):
            what = f"{peer_text(host)} is {address}, which is not a public address"
            return Refusal(why=f"{what}; name its network in allow_private if you mean it", is_final=is_final)
        if url.scheme == "http" and not insecure and not _is_in(address, allow_private):
            what = f"{peer_text(host)} is {address}, outside of allow_private, and the URL is http"
            return Refusal(why=f"{what}; write https", is_final=is_final)
    return Checked(host=host, port=url.port or 0, addresses=tuple(dict.fromkeys(found)))


def is_loopback(text: str) -> bool:
    """Return whether an address is this machine's own."""
    address = ip_address(text)
    return (_carried(address) or address).is_loopback


def literal(host: str) -> Address | None:
    """Return the address that a host is when it is one in its plain spelling, None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


class Lookups:
    """Asks the system for addresses, each time in a thread of its own.

    A call that hangs cannot be ended, so each receiver has at most one under way: who asks again meanwhile waits for
    the same answer. The threads do not hold up the end of the process. All calls on one event loop.

    Args:
        lookup: Stand-in for the system's resolver.
    """

    def __init__(self, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or system_lookup
        self._under_way: dict[tuple[str, str, int], asyncio.Future[Sequence[str]]] = {}

    async def find(self, receiver: str, url: URL) -> Sequence[str]:
        """Return the addresses of a URL's host. Raises: OSError: It has none, or the name server does not answer."""
        host, port = url.raw_host or "", url.port or 0
        if literal(host) is not None:
            return (host,)
        key = receiver, host, port
        future = self._under_way.get(key)
        if future is None:
            if len(self._under_way) >= WEBHOOK_LOOKUPS_MAX:
                raise OSError(f"{len(self._under_way)} names are being looked up, limit is {WEBHOOK_LOOKUPS_MAX}")
            loop = asyncio.get_running_loop()
            future = self._under_way[key] = loop.create_future()
            future.add_done_callback(partial(self._done, key))
            threading.Thread(target=self._ask, args=(loop, future, host, port), name="lookup", daemon=True).start()
        return await asyncio.shield(future)

    def _ask(
        self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Sequence[str]]", host: str, port: int
    ) -> None:
        answer: Callable[[], None]
        try:
            answer = partial(future.set_result, self._lookup(host, port))
        except OSError as exc:
            answer = partial(future.set_exception, exc)
        with suppress(RuntimeError):  # the loop ended meanwhile
            loop.call_soon_threadsafe(answer)

    def _done(self, key: tuple[str, str, int], future: "asyncio.Future[Sequence[str]]") -> None:
        del self._under_way[key]
        if not future.cancelled():
            future.exception()  # seen: whoever asked may have given up waiting


def system_lookup(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver. Raises: OSError."""
    try:
        rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    except UnicodeError as exc:
        raise OSError(f"{peer_text(host)} is no host name") from exc
    return [str(row[4][0]) for row in rows]


def _carried(address: Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for, None where it stands for none."""
    if not isinstance(address, IPv6Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _NAT64 or (address in _V4_COMPATIBLE and int(address) > 1):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.sixtofour if address in _6TO4 else None


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    address = _carried(address) or address
    return any(address in network for network in networks if network.version == address.version)


def _final(what: str, mend: str) -> Refusal:
    return Refusal(why=f"{what}; {mend}", is_final=True)
