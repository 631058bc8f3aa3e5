"""Which addresses webhooks may reach: public ones, and networks that the operator names."""

import asyncio
import threading
from ipaddress import ip_address, ip_network

import pytest
from yarl import URL

from processors.sinks.webhook_guard import (
    Checked,
    Lookups,
    Refusal,
    check_addresses,
    check_url,
    is_allowed,
    is_loopback,
)

PUBLIC = [
    *("1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1"),
    *("2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"),
]
NOT_PUBLIC = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
    *("169.254.169.254", "100.64.0.1", "100.127.255.255", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1"),
    *("192.0.0.8", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "192.88.99.1"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.1.2.3"),
    *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:1::1"),
    *("100::1", "4000::1", "5f00::1", "3fff::1"),
]


@pytest.mark.parametrize("text", PUBLIC)
def test_public_address_is_allowed(text):
    """Also where IPv6 carries it."""
    assert is_allowed(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_address_that_is_not_public_is_refused(text):
    """Loopback, link-local, private, shared, multicast, unspecified, reserved, in every form of IPv6."""
    assert not is_allowed(ip_address(text))


@pytest.mark.parametrize("text", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::7", "::1"])
def test_named_network_is_allowed(text):
    """An operator's own network, whatever form of address leads there."""
    networks = [ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("::1/128")]
    assert is_allowed(ip_address(text), networks)
    assert not is_allowed(ip_address("192.168.0.1"), networks)
    assert not is_allowed(ip_address("fe80::1"), networks)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.org/",
        "file:///etc/passwd",
        "https:///path",
        "example.org/hook",
        "http://example.org/",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://0x7f.1/",
        "https://0x7f000001/",
        "https://2130706433/",
        "https://127.1/",
        "https://0177.0.0.1/",
        "https://1.2.3.4.5/",
        "https://evil.127/",
        "https://[::1/",
    ],
)
def test_url_that_cannot_be_trusted_is_refused(url):
    """Other schemes, clear text, credentials, and spellings of addresses that programs read differently."""
    refusal = check_url(url)
    assert isinstance(refusal, Refusal)
    assert refusal.is_final


@pytest.mark.parametrize("url", ["https://user:hunter2@example.org/hook", "gopher://example.org/hunter2"])
def test_refusal_does_not_show_the_url(url):
    """The address of a chat channel is its password."""
    refusal = check_url(url)
    assert isinstance(refusal, Refusal)
    assert "hunter2" not in refusal.why


@pytest.mark.parametrize(
    "url",
    ["https://example.org/hook?a=b", "https://1.1.1.1:8443/", "https://[2606:4700::1111]/", "https://bücher.example/"],
)
def test_usual_url_is_taken(url):
    """Names, also international ones, and plain addresses."""
    assert isinstance(check_url(url), URL)


def test_full_width_digits_are_read_as_the_address_they_become():
    """The host that is checked is the one that is connected to, after normalisation."""
    url = check_url("https://{}{}{}.{}.{}.{}/".format(*(chr(0xFF10 + digit) for digit in (1, 2, 7, 0, 0, 1))))
    assert isinstance(url, URL)
    assert isinstance(check_addresses(url, [url.raw_host]), Refusal)


def test_one_bad_address_refuses_all():
    """A name with a public and a private address could be connected to by either."""
    refusal = check_addresses(URL("https://example.org/"), ["1.1.1.1", "10.0.0.1"])
    assert isinstance(refusal, Refusal)
    assert not refusal.is_final
    assert "10.0.0.1" in refusal.why


def test_checked_addresses_are_pinned_in_their_order():
    """The connection gets exactly what was checked, each once."""
    checked = check_addresses(URL("https://example.org:8443/"), ["1.1.1.1", "2606:4700::1", "1.1.1.1"])
    assert Checked(host="example.org", port=8443, addresses=("1.1.1.1", "2606:4700::1")) == checked


def test_clear_text_is_for_named_networks_alone():
    """`http` to a public address is refused even where another network is named, unless it was asked for."""
    networks = [ip_network("10.0.0.0/8")]
    url = URL("http://example.org/")
    assert isinstance(check_addresses(url, ["10.0.0.1"], networks), Checked)
    assert isinstance(check_addresses(url, ["1.1.1.1"], networks), Refusal)
    assert isinstance(check_addresses(url, ["1.1.1.1"], networks, insecure=True), Checked)
    assert isinstance(check_addresses(url, ["192.168.0.1"], networks, insecure=True), Refusal)


def test_name_without_addresses_is_refused_for_now():
    """An empty answer is no permission."""
    assert isinstance(check_addresses(URL("https://example.org/"), []), Refusal)


@pytest.mark.parametrize(
    ("text", "expected"), [("127.9.9.9", True), ("::ffff:127.0.0.1", True), ("::1", True), ("10.0.0.1", False)]
)
def test_loopback_is_known_in_every_form(text, expected):
    """For mail without encryption."""
    assert expected == is_loopback(text)


def test_address_is_not_looked_up():
    """An address needs no name server, which could answer something else."""

    def never(_host, _port):
        raise AssertionError

    assert ("10.0.0.1",) == asyncio.run(Lookups(never).find("ops", URL("https://10.0.0.1/")))


def test_lookup_that_hangs_is_asked_once_per_receiver():
    """Who asks again while a name server hangs waits for the same answer; another receiver asks on its own."""
    asked: list[str] = []
    release = threading.Event()

    def slow(host, _port):
        asked.append(host)
        release.wait(10)
        return ["1.1.1.1"]

    async def ask() -> list[object]:
        lookups = Lookups(slow)
        url = URL("https://slow.example/")
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(lookups.find(name, url)) for name in ("ops", "ops", "chat")]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            release.set()
        return [task.result() for task in tasks]

    assert [["1.1.1.1"]] * 3 == asyncio.run(ask())
    assert 2 == len(asked)
