"""Classes D08, E11 and E12: after a CONNECT to a host whose requests are read comes TLS for that host, or the end."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.kit import client_hello as hello
from tests.kit.client_hello import ENCRYPTED_CLIENT_HELLO, GREASE, PADDING, SERVER_NAME, Shape, shaken, with_extension
from tests.kit.fleet import Fleet
from tests.kit.inner import HTTP1, HTTP2, Inner, enter, http1_bytes, open_tunnel, trusting
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, connect
from tests.kit.wire import Ended

from .rows_inner import API, FULL, LIMITED, OTHER, RAW

HOOKED = "any.allowed.test"
AT_ONCE = 3.0
"""Seconds that pass for at once on a busy machine; no deadline of the proxy is as short."""


@pytest.fixture(params=[HOOKED, RAW], ids=["hooked", "limited mode"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def proxy(inspected: Fleet, host: str, fast_path: bool) -> ProxyProcess:
    return inspected.get(FULL if host == HOOKED else LIMITED, fast_path)


@pytest.fixture
def at(tls_origin: HttpOrigin, host: str) -> str:
    return f"{host}:{tls_origin.port}"


@pytest.fixture
def untouched(tls_origin: HttpOrigin) -> Iterator[None]:
    """Nothing of the test may reach the origin."""
    mark = tls_origin.recorder.mark()
    yield
    assert not tls_origin.recorder.since(mark)


SHAPES = [
    pytest.param(hello.at_once, id="at once"),
    pytest.param(hello.byte_by_byte, id="byte by byte"),
    pytest.param(hello.first_byte_alone, id="the first byte alone"),
    pytest.param(hello.records_of(1), id="records of one byte"),
    pytest.param(hello.records_of(60), id="records of 60 bytes"),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_e11_a_hello_in_any_pieces_is_read(shape: Shape, proxy: ProxyProcess, at: str, host: str) -> None:
    with open_tunnel(proxy, at) as client:
        shaken(client, trusting(proxy.ca), host, shape)
        assert client.ask(http1_bytes(at.encode(), Inner(path=b"/t"))).text == "ok from tls\n"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.usefixtures("untouched")
def test_e11_a_hello_for_another_host_is_the_end_in_any_pieces(shape: Shape, proxy: ProxyProcess, at: str) -> None:
    with open_tunnel(proxy, at) as client:
        assert refused(client, proxy, shape)


def refused(client: Client, proxy: ProxyProcess, shape: Shape, before: bytes = b"") -> bool:
    """Whether TLS for another host ends at once. A time-out is no end."""
    try:
        shaken(client, trusting(proxy.ca), "evil.test", shape, before)
    except (ssl.SSLError, ConnectionError, Ended):
        return True
    return False


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_d08_a_hello_in_the_same_packet_as_connect(shape: Shape, proxy: ProxyProcess, at: str, host: str) -> None:
    with Client(proxy.http) as client:
        shaken(client, trusting(proxy.ca), host, shape, before=connect(at))
        assert client.ask(http1_bytes(at.encode(), Inner(path=b"/t"))).text == "ok from tls\n"


@pytest.mark.usefixtures("untouched")
def test_d08_a_hello_for_another_host_in_the_same_packet(proxy: ProxyProcess, at: str) -> None:
    with Client(proxy.http, AT_ONCE) as client:
        assert refused(client, proxy, hello.at_once, connect(at))


def answer_to(client: Client, data: bytes) -> bytes:
    """The first byte of what comes back, if anything does before the end."""
    with contextlib.suppress(ConnectionError):
        client.send(data)
    try:
        return client.stream.exactly(1)
    except (Ended, ConnectionError):
        return b""


def served(answer: bytes) -> bool:
    return answer == b"\x16"


def ended(answer: bytes) -> bool:
    """Closed, with or without a TLS alert."""
    return answer in (b"", b"\x15")


NAME = API.encode()
Hello = Callable[[bytes], bytes]


def named(*names: bytes) -> Hello:
    """A hello with these names in the place of the host's."""
    return lambda host: with_extension(hello.hello_for(None), SERVER_NAME, hello.server_names(*names))


def extended(kind: int, content: bytes, name: str | None = None) -> Hello:
    """A hello for the host, or for `name`, with one more extension."""
    return lambda host: with_extension(hello.hello_for(name or host.decode()), kind, content)


ECH = bytes.fromhex("0000010001") + b"\x07\x00\x20" + bytes(32) + b"\x00\x40" + bytes(64)

GOOD_HELLOS = [
    pytest.param(extended(GREASE, b""), id="with GREASE"),
    pytest.param(
        lambda host: with_extension(hello.hello_for(host.decode()), GREASE, b"\0", first=True), id="GREASE first"
    ),
    pytest.param(extended(ENCRYPTED_CLIENT_HELLO, ECH), id="ECH, with the host as the outer name"),
    pytest.param(lambda host: hello.hello_for(host.decode().upper()), id="the host in capitals"),
]
BAD_HELLOS = [
    pytest.param(lambda host: hello.hello_for("evil.test"), id="another host"),
    pytest.param(lambda host: hello.hello_for("denied.test"), id="a denied host"),
    pytest.param(lambda host: hello.hello_for(OTHER), id="another allowed host"),
    pytest.param(lambda host: hello.hello_for("x." + host.decode()), id="a name below"),
    pytest.param(lambda host: hello.hello_for(host.decode().partition(".")[2]), id="a name above"),
    pytest.param(lambda host: hello.hello_for(None), id="no name"),
    pytest.param(named(b""), id="an empty name"),
    pytest.param(named(), id="an empty list of names"),
    pytest.param(named(b"127.0.0.1"), id="an address as name"),
    pytest.param(lambda host: named(host + b"\0.evil.test")(host), id="a NUL in the name"),
    pytest.param(lambda host: named(b"evil.test", host)(host), id="another name and the host's"),
    pytest.param(extended(ENCRYPTED_CLIENT_HELLO, ECH, "evil.test"), id="ECH, with another outer name"),
    pytest.param(extended(PADDING, bytes(20_000), "evil.test"), id="another host in a hello longer than a record"),
    pytest.param(
        lambda host: with_extension(hello.hello_for(host.decode()), SERVER_NAME, hello.server_names(b"evil.test")),
        id="a second extension with another name",
    ),
]  # fmt: skip


@pytest.mark.parametrize("make", GOOD_HELLOS)
def test_e11_odd_hellos_for_the_host_are_served(make: Hello, proxy: ProxyProcess, at: str, host: str) -> None:
    with open_tunnel(proxy, at) as client:
        assert served(answer_to(client, hello.records(make(host.encode()))))


def test_e11_a_hello_longer_than_a_record_is_served_or_the_end(proxy: ProxyProcess, at: str, host: str) -> None:
    with open_tunnel(proxy, at) as client:
        answer = answer_to(client, hello.records(extended(PADDING, bytes(20_000))(host.encode())))
        assert served(answer) or ended(answer)


@pytest.mark.parametrize("make", BAD_HELLOS)
@pytest.mark.usefixtures("untouched")
def test_e11_hellos_that_do_not_name_the_host_are_the_end(make: Hello, proxy: ProxyProcess, at: str, host: str) -> None:
    with open_tunnel(proxy, at) as client:
        assert ended(answer_to(client, hello.records(make(host.encode()))))


NOT_TLS = [
    pytest.param(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", id="D07 HTTP in clear"),
    pytest.param(b"G", id="one byte of HTTP"),
    pytest.param(b"GET http://evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n", id="D07 a proxied request"),
    pytest.param(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n", id="D05 a tunnel in the tunnel"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="H04 HTTP/2 in clear"),
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="SSH"),
    pytest.param(b"EHLO client.test\r\n", id="SMTP"),
    pytest.param(b"\x05\x01\x00", id="SOCKS5"),
    pytest.param(b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", id="SOCKS4"),
    pytest.param(b"\x00" * 64, id="zeros"),
    pytest.param(b"\x80\x2e\x01\x00\x02" + bytes(41), id="an SSL 2 hello"),
    pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="a TLS alert"),
    pytest.param(b"\x17\x03\x03\x00\x05hello", id="TLS data without a handshake"),
    pytest.param(b"\x14\x03\x03\x00\x01\x01", id="a change of cipher"),
    pytest.param(b"\x16\x02\x00\x00\x05hello", id="a record of another version"),
    pytest.param(b"\x16G", id="one byte of TLS, then HTTP"),
    pytest.param(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01x", id="a server's hello"),
    pytest.param(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01x", id="a hello that holds nothing"),
    pytest.param(b"\x16\x03\x01\x40\x00" * 20_000, id="records without end"),
    pytest.param(b"\x16\xfe\xfd" + bytes(40), id="DTLS"),
]


@pytest.mark.parametrize("data", NOT_TLS)
@pytest.mark.usefixtures("untouched")
def test_what_is_no_tls_is_cut(data: bytes, proxy: ProxyProcess, at: str) -> None:
    with open_tunnel(proxy, at) as client:
        assert ended(answer_to(client, data))


@pytest.mark.usefixtures("untouched")
def test_d08_what_is_no_tls_is_cut_in_the_same_packet_as_connect(proxy: ProxyProcess, at: str) -> None:
    with Client(proxy.http, AT_ONCE) as client:
        client.send(connect(at) + b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n")
        with contextlib.suppress(Ended, ConnectionError):
            assert client.read("CONNECT").status == 200
            assert ended(client.stream.some())


@pytest.mark.usefixtures("untouched")
def test_half_a_hello_and_the_end_is_no_tls(proxy: ProxyProcess, at: str, host: str) -> None:
    with open_tunnel(proxy, at) as client:
        client.send(hello.records(hello.hello_for(host))[:100])
        client.finish()
        assert ended(client.stream.some())


def test_an_address_needs_no_name(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    proxy, at = inspected.get(LIMITED), f"127.0.0.1:{tls_origin.port}"
    with enter(proxy, at) as client:
        assert client.ask(http1_bytes(at.encode(), Inner(path=b"/t"))).text == "ok from tls\n"
    assert tls_origin.recorder.connections[-1].sni is None


@pytest.mark.usefixtures("untouched")
def test_a_name_in_a_tunnel_to_an_address_is_the_end(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    with open_tunnel(inspected.get(LIMITED), f"127.0.0.1:{tls_origin.port}") as client:
        assert ended(answer_to(client, hello.records(hello.hello_for(RAW))))


def test_e12_a_session_of_one_host_does_not_open_another(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    """Resumed or not, the certificate is the tunnel's and the requests are judged under it."""
    proxy = inspected.get(FULL)
    context = ssl.create_default_context(cafile=str(proxy.ca))
    first = open_tunnel(proxy, f"{API}:{tls_origin.port}")
    second = open_tunnel(proxy, f"{HOOKED}:{tls_origin.port}")
    third = open_tunnel(proxy, f"{HOOKED}:{tls_origin.port}")
    with first, second, third:
        first.start_tls(context, API)
        assert first.ask(http1_bytes(f"{API}:{tls_origin.port}".encode(), Inner(path=b"/no"))).status == 403
        assert isinstance(first.sock, ssl.SSLSocket)
        session = first.sock.session
        resumed = context.wrap_socket(second.sock, server_hostname=HOOKED, session=session)
        assert not resumed.session_reused
        assert ("DNS", HOOKED) in (resumed.getpeercert() or {})["subjectAltName"]
        with pytest.raises(OSError, match=r"EOF|reset|closed"):
            context.wrap_socket(third.sock, server_hostname=API, session=session)
        resumed.close()


INSIDE = [
    pytest.param(HTTP1, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), id="HTTP/2 where HTTP/1.1 was agreed"),
    pytest.param(HTTP2, b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", id="HTTP/1.1 where HTTP/2 was agreed"),
    pytest.param(HTTP1, b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="SSH inside"),
    pytest.param(HTTP1, b"\x16\x03\x01\x00\x05hello\r\n\r\n", id="TLS inside"),
    pytest.param(HTTP1, b"\x00\x01\x02\x03\r\n\r\n", id="noise inside"),
    pytest.param(("acme-tls/1",), b"\x00\x01\x02\x03\r\n\r\n", id="noise under a protocol of its own"),
    pytest.param((), b"SSH-2.0-OpenSSH_9.6\r\n\r\n", id="SSH where no protocol was agreed"),
]


@pytest.mark.parametrize(("alpn", "data"), INSIDE)
@pytest.mark.parametrize("step", [None, 1], ids=["at once", "byte by byte"])
@pytest.mark.usefixtures("untouched")
def test_what_is_no_http_inside_is_refused(
    alpn: tuple[str, ...], data: bytes, step: int | None, inspected: Fleet, tls_origin: HttpOrigin
) -> None:
    proxy = inspected.get(FULL)
    with enter(proxy, f"{HOOKED}:{tls_origin.port}", alpn) as client:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            client.send(data, step)
        assert is_refusal(client)


def is_refusal(client: Client) -> bool:
    """A 400 and the end, a GOAWAY and the end, or only the end."""
    try:
        received = client.stream.rest()
    except (ConnectionError, ssl.SSLError):
        return True
    return received[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 505") or b"\x07\x00\x00\x00\x00\x00" in received


def test_without_any_protocol_agreed_http1_works(inspected: Fleet, tls_origin: HttpOrigin) -> None:
    at = f"{HOOKED}:{tls_origin.port}"
    for alpn in ((), ("acme-tls/1",)):
        with enter(inspected.get(FULL), at, alpn) as client:
            assert client.ask(http1_bytes(at.encode(), Inner(path=b"/t"))).text == "ok from tls\n"
