"""TLS over real sockets: whose certificate gets in, what is told of those that do not, renewal while it runs."""

import asyncio
import gc
import socket
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography.x509.oid import NameOID

from gateway.edge.tls import HANDSHAKE_REASONS, PeerCertificate, peer_certificate, renew, server_context
from tests.integration.certificates import DAY, Authority

pytestmark = pytest.mark.integration

TIMEOUT_S = 10.0
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on each kind of loop."""

    def on_loop(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(work, TIMEOUT_S))

    return on_loop


class Listener:
    """A server that answers each connection with what its certificate says."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context
        self.seen: list[PeerCertificate | None] = []
        self.port = 0

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.append(peer_certificate(writer.get_extra_info("ssl_object")))
        writer.write(b"hello")
        writer.close()

    async def connect(self, context: ssl.SSLContext) -> str:
        """Return the suite of a connection that was answered, or raise what kept it from that."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, server_hostname="localhost")
        try:
            assert await reader.readexactly(5) == b"hello"
            suite: tuple[str, str, int] = writer.get_extra_info("cipher")
            return suite[0]
        finally:
            writer.transport.abort()


def client(authority: Authority, certificate: Pair | None = None, *, version: str = "1.3") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


@pytest.mark.parametrize("version", VERSIONS)
def test_a_certificate_of_our_issuer_says_who_it_is(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any], version: str
) -> None:
    """Name, organization, serial number and end come from the verified certificate; none is none."""
    context = server_context(chains=[authority.server()], client_ca=authority.file, crl=authority.crl())
    certificate = authority.client("CP-0001", organization="Fleet")

    async def scenario() -> list[PeerCertificate | None]:
        async with Listener(context) as listener:
            await listener.connect(client(authority, certificate, version=version))
            await listener.connect(client(authority, version=version))
            return listener.seen

    (shown, nothing) = run(scenario())
    assert nothing is None
    assert (shown.common_name, shown.organization) == ("CP-0001", "Fleet")
    decoded: dict[str, Any] = ssl._ssl._test_decode_cert(str(certificate[0]))  # type: ignore[attr-defined]
    assert shown.serial_number == decoded["serialNumber"]
    assert shown.not_after_ns == ssl.cert_time_to_seconds(decoded["notAfter"]) * 10**9
    assert len(shown.fingerprint) == 64


def test_two_common_names_are_no_name(authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """Which of the two would be the charger's is anybody's guess, so it is neither's; a missing O is empty."""
    certificate = authority.client("CP-1", organization=None, extra=[(NameOID.COMMON_NAME, "CP-2")])
    context = server_context(chains=[authority.server()], client_ca=authority.file)

    async def scenario() -> PeerCertificate | None:
        async with Listener(context) as listener:
            await listener.connect(client(authority, certificate))
            return listener.seen[0]

    shown = run(scenario())
    assert (shown.common_name, shown.organization) == ("", "")


STRANGERS: dict[str, tuple[Callable[[Authority, Path], Pair], str]] = {
    "expired": (lambda a, _: a.client("CP-1", valid_from=-2 * DAY, valid_to=-DAY), "certificate_expired"),
    "not yet valid": (lambda a, _: a.client("CP-1", valid_from=DAY), "certificate_not_yet_valid"),
    "self-signed": (lambda a, _: a.self_signed("CP-1"), "certificate_self_signed"),
    "of another issuer": (lambda _, d: Authority(d, "Other").client("CP-1"), "certificate_unknown_issuer"),
    "of a server": (lambda a, _: a.server(), "certificate_invalid"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_certificate_that_proves_nothing_is_refused(
    authority: Authority,
    run: Callable[[Coroutine[Any, Any, Any]], Any],
    tmp_path: Path,
    stranger: str,
    version: str,
) -> None:
    """The handshake fails before a byte of ours is sent, and the operator hears why."""
    make, reason = STRANGERS[stranger]
    told: list[tuple[str, str]] = []
    context = server_context(
        chains=[authority.server()],
        client_ca=authority.file,
        crl=authority.crl(),
        on_refused=lambda reason, detail: told.append((reason, detail)),
    )
    certificate = make(authority, tmp_path)

    async def scenario() -> list[PeerCertificate | None]:
        async with Listener(context) as listener:
            with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                await listener.connect(client(authority, certificate, version=version))
            return listener.seen

    assert run(scenario()) == []
    assert [reason for reason, _ in told] == [reason]
    assert "client certificate refused: " in told[0][1]
    assert reason in HANDSHAKE_REASONS


def test_a_revoked_certificate_is_refused_and_its_neighbour_is_not(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """The list names serial numbers; where the list itself is out of date nobody gets in."""
    revoked, honest = authority.client("CP-1"), authority.client("CP-2")
    told: list[str] = []

    async def scenario(crl: Path) -> list[str | None]:
        context = server_context(
            chains=[authority.server()],
            client_ca=authority.file,
            crl=crl,
            on_refused=lambda reason, _: told.append(reason),
        )
        async with Listener(context) as listener:
            for certificate in (revoked, honest):
                try:
                    await listener.connect(client(authority, certificate))
                except (OSError, asyncio.IncompleteReadError):
                    continue
            return [None if shown is None else shown.common_name for shown in listener.seen]

    assert run(scenario(authority.crl([revoked[0]]))) == ["CP-2"]
    assert told == ["certificate_revoked"]
    assert run(scenario(authority.crl(age=3 * DAY, valid_to=-DAY))) == []
    assert told[1:] == ["revocation_list_expired"] * 2


SUITES = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
]


@pytest.mark.parametrize("suite", SUITES)
def test_each_suite_that_ocpp_names_is_agreed_on(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any], suite: str
) -> None:
    """A charger that knows one of the four alone connects."""
    context = server_context(chains=[authority.server("ecdsa"), authority.server("rsa")], policy="ocpp-strict")
    charger = client(authority, version="1.2")
    charger.set_ciphers(suite)

    async def scenario() -> str:
        async with Listener(context) as listener:
            return await listener.connect(charger)

    assert suite == run(scenario())


@pytest.mark.parametrize("policy", ["modern", "ocpp-strict"])
def test_what_a_policy_leaves_out_is_refused(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any], policy: Any
) -> None:
    """CBC under both, static RSA under the modern one; the reason is told."""
    told: list[str] = []
    context = server_context(
        chains=[authority.server("ecdsa"), authority.server("rsa")],
        policy=policy,
        on_refused=lambda reason, _: told.append(reason),
    )
    charger = client(authority, version="1.2")
    charger.set_ciphers("AES128-SHA256" if policy == "ocpp-strict" else "AES128-GCM-SHA256:AES128-SHA256")

    async def scenario() -> None:
        async with Listener(context) as listener:
            with pytest.raises((ssl.SSLError, OSError)):
                await listener.connect(charger)

    run(scenario())
    assert told == ["no_shared_cipher"]


def test_what_is_no_tls_and_who_distrusts_us_is_told(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """A charger with ws:// instead of wss://, and one that does not know our issuer."""
    told: list[str] = []
    context = server_context(chains=[authority.server()], on_refused=lambda reason, _: told.append(reason))

    async def scenario() -> None:
        async with Listener(context) as listener:
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(b"GET /ocpp/CP-1 HTTP/1.1\r\n\r\n")
            await reader.read()
            writer.close()
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(greeted, listener.port, ssl.create_default_context())
            while len(told) < 2:
                await asyncio.sleep(0.01)

    run(scenario())
    assert told == ["no_tls", "peer_distrusts_us"]


def test_renewed_files_hold_for_the_next_handshake(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    """A new certificate of ours and a new revocation list need no restart; a wrong one changes nothing."""
    authority = Authority(tmp_path)
    chain, charger = authority.server(), authority.client("CP-1")
    context = server_context(chains=[chain], client_ca=authority.file, crl=authority.crl())

    async def scenario() -> list[object]:
        async with Listener(context) as listener:
            found: list[object] = [await listener.connect(client(authority, charger))]
            with pytest.raises(Exception, match="is refused: certificate has expired"):
                renew(context, chains=[authority.server(valid_from=-2 * DAY, valid_to=-DAY)])
            found.append(await listener.connect(client(authority, charger)))
            renewed = authority.server(valid_to=60 * DAY)
            crl = authority.crl([charger[0]], age=DAY / 2)
            renew(context, chains=[renewed], client_ca=authority.file, crl=crl)
            served = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", listener.port))
            found.append(served.split() == renewed[0].read_text().split())
            with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
                await listener.connect(client(authority, charger))
            return found

    assert run(scenario()) == ["TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", True]


@pytest.mark.parametrize("version", VERSIONS)
def test_no_certificate_comes_back_in_an_old_session(
    authority: Authority, run: Callable[[Coroutine[Any, Any, Any]], Any], version: str
) -> None:
    """It may have been revoked since. A charger that resumes is turned away once, then shows its certificate again."""
    told: list[str] = []
    context = server_context(
        chains=[authority.server()], client_ca=authority.file, on_refused=lambda reason, _: told.append(reason)
    )
    charger = client(authority, authority.client("CP-1"), version=version)

    async def scenario() -> list[bool]:
        async with Listener(context) as listener:
            first, session = await asyncio.to_thread(greeted, listener.port, charger)
            second, _ = await asyncio.to_thread(greeted, listener.port, charger, session)
            gc.collect()  # the plain loop keeps a dead connection in a cycle
            third, _ = await asyncio.to_thread(greeted, listener.port, charger, session)
            return [first, second, third]

    assert run(scenario()) == ([True, False, True] if version == "1.2" else [True, True, True])
    assert told == (["session_resumed"] if version == "1.2" else [])


def greeted(port: int, context: ssl.SSLContext, session: Any = None) -> tuple[bool, Any]:
    """Return whether the listener answered a blocking client, and the session to resume."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped,
    ):
        try:
            return wrapped.recv(5) == b"hello", wrapped.session
        except OSError:
            return False, None
