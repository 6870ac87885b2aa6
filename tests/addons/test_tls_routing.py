"""The next protocol follows from the CONNECT target alone, however the bytes come (class E11, spec A4.3, A4.4)."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import pytest
from mitmproxy import tls
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import context, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream

from codex_network_proxy.addons import tls_routing
from codex_network_proxy.addons.guard import Guard
from codex_network_proxy.addons.http_layer import PolicedHttpLayer
from codex_network_proxy.addons.tls_routing import CLIENT_HELLO_LIMIT, CloseLayer, TlsRouting

from .engine_kit import configuration
from .flow_kit import Bench, bench
from .layers_kit import OPTIONS, bare, stacked


def hello(name: str | None = "hooked.test") -> bytes:
    """What OpenSSL greets a server with."""
    client = ssl.create_default_context()
    client.check_hostname = name is not None
    client.set_alpn_protocols(["h2", "http/1.1"])
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client.wrap_bio(into, out, server_hostname=name).do_handshake()
    return out.read()


HELLO = hello()


def in_records(data: bytes, size: int) -> bytes:
    """The same greeting in TLS records of `size` bytes."""
    body = data[5:]
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


def with_name(name: bytes) -> bytes:
    """A greeting whose SNI was exchanged for another of the same length."""
    placeholder = b"x" * len(name)
    return hello(placeholder.decode()).replace(placeholder, name)


def ask(asked: layer.NextLayer, data: bytes = b"") -> layer.Layer | None:
    """The layer that is chosen, when these bytes have come; nothing while more are awaited."""
    if data:
        asked.events.append(events.DataReceived(asked.context.client, data))
    try:
        TlsRouting().next_layer(asked)
    except AddonHalt:
        assert asked.layer is None
    return asked.layer


def inside(here: Bench, data: bytes, target: str = "hooked.test:443") -> layer.Layer | None:
    here.enter(target)
    return ask(stacked(here, bare(HttpStream)), data)


def is_intercepted(chosen: layer.Layer | None) -> bool:
    return isinstance(chosen, ServerTLSLayer) and isinstance(chosen.child_layer, ClientTLSLayer)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"", type(None), id="nothing yet"),
        pytest.param(b"G", PolicedHttpLayer, id="the first byte of a request"),
        pytest.param(b"\x16\x03\x01", CloseLayer, id="TLS"),
        pytest.param(b"\x05\x01\x00", CloseLayer, id="SOCKS5"),
        pytest.param(b"\x04\x01", CloseLayer, id="SOCKS4"),
        pytest.param(b"\x00", PolicedHttpLayer, id="noise, which is told so"),
    ],
)
def test_the_first_bytes_of_a_connection(data: bytes, kind: type) -> None:
    with bench() as here:
        chosen = ask(stacked(here, bare(modes.HttpProxy)), data)
        assert type(chosen) is kind
        if isinstance(chosen, PolicedHttpLayer):
            assert chosen.mode is HTTPMode.regular


def test_a_relayed_tunnel_is_relayed_whatever_comes() -> None:
    with bench() as here:
        for data in (b"SSH-2.0", HELLO, b"GET / HTTP/1.1\r\n"):
            chosen = inside(here, data, "allowed.test:443")
            assert isinstance(chosen, TCPLayer)
            assert chosen.flow is None, "nothing of it is kept"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(HELLO, id="as OpenSSL sends it"),
        pytest.param(in_records(HELLO, 1), id="in records of one byte"),
        pytest.param(in_records(HELLO, 100), id="in some records"),
        pytest.param(with_name(b"HOOKED.test"), id="in capitals"),
        pytest.param(HELLO + b"early data", id="with more behind it"),
    ],
)
def test_a_greeting_for_the_target_is_intercepted(data: bytes) -> None:
    with bench() as here:
        chosen = inside(here, data)
        assert is_intercepted(chosen)
        assert chosen
        assert chosen.context.server.sni == "hooked.test", "the canonical name goes upstream"


def test_a_greeting_may_come_byte_by_byte() -> None:
    with bench() as here:
        here.enter()
        asked = stacked(here, bare(HttpStream))
        for at in range(len(HELLO) - 1):
            assert ask(asked, HELLO[at : at + 1]) is None
        assert is_intercepted(ask(asked, HELLO[-1:]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"G", id="one byte of a request"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="a request in clear"),
        pytest.param(b"SSH-2.0-x", id="another protocol"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\n", id="HTTP/2 in clear"),
        pytest.param(b"\x16G", id="one byte of TLS"),
        pytest.param(b"\x16\x02\x00", id="an SSL that is too old"),
        pytest.param(b"\x17\x03\x03\x00\x01x", id="TLS that starts in the middle"),
        pytest.param(b"\x80\x2e\x01\x00\x02", id="SSL 2"),
        pytest.param(b"\x16\x03\x01\x00\x00", id="an empty record"),
        pytest.param(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", id="another handshake message"),
        pytest.param(b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03", id="a greeting without a body"),
        pytest.param(HELLO[:5] + b"\x01\x00\x00\x20" + bytes(HELLO[4]) + b"\xff" * 600, id="noise in a record"),
        pytest.param(hello(None), id="no name"),
        pytest.param(with_name(b"b.evil.test"), id="another name"),
        pytest.param(with_name(b"x.hooked.test"), id="a name below"),
        pytest.param(with_name(b"hooked.test\x00"), id="a NUL in the name"),
        pytest.param(with_name(b"hooked_.test"), id="a name that is none"),
        pytest.param(b"\x16\x03\x01\x40\x00" + b"\x01\x00\xff\xff" + bytes(CLIENT_HELLO_LIMIT), id="too long"),
    ],
)
def test_everything_else_in_an_inspected_tunnel_is_cut(data: bytes) -> None:
    with bench() as here:
        assert isinstance(inside(here, data), CloseLayer)


def test_a_greeting_that_never_ends_is_cut() -> None:
    with bench() as here:
        here.enter()
        asked = stacked(here, bare(HttpStream))
        endless = b"\x16\x03\x01\x40\x00" + b"\x01\xff\xff\xff" + bytes(0x4000 - 4)
        pieces = [endless, *[b"\x16\x03\x01\x40\x00" + bytes(0x4000)] * 3]
        chosen = [ask(asked, piece) for piece in pieces]
        assert chosen[:-1] == [None] * 3
        assert isinstance(chosen[-1], CloseLayer)


IP = "127.0.0.1:443"
HOOK_ON_ADDRESS = """
[[permissions.t.network.mitm_hooks]]
host = "127.0.0.1"
[permissions.t.network.mitm_hooks.match]
methods = ["GET"]
path_prefixes = ["/"]
"""


@pytest.mark.parametrize(
    ("data", "passes"),
    [
        pytest.param(hello(None), True, id="no name"),
        pytest.param(HELLO, False, id="a name"),
        pytest.param(with_name(b"-hooked_test"), False, id="a name that cannot be read"),
    ],
)
def test_an_address_has_no_name(data: bytes, passes: bool) -> None:
    text = configuration(hooks=HOOK_ON_ADDRESS, lines=['allowed_domains = ["127.0.0.1"]'])
    with bench(text) as here:
        here.enter(IP)
        assert is_intercepted(ask(stacked(here, bare(HttpStream)), data)) is passes


def test_behind_tls_there_is_http_and_nothing_else() -> None:
    with bench() as here:
        chosen = ask(stacked(here, bare(ClientTLSLayer)), b"\x00 not HTTP at all")
        assert isinstance(chosen, PolicedHttpLayer)
        assert chosen.mode is HTTPMode.transparent


@pytest.mark.parametrize("layers", [[], [bare(HttpLayer)], [bare(TCPLayer)], [bare(HttpStream)]])
def test_where_nothing_was_decided_nothing_follows(layers: Sequence[Any]) -> None:
    with bench() as here:
        assert isinstance(ask(stacked(here, *layers), HELLO), CloseLayer)


def test_without_a_session_nothing_follows() -> None:
    with bench() as here:
        asked = stacked(here, bare(modes.HttpProxy))
    assert isinstance(ask(asked, b"GET /"), CloseLayer)


def test_what_another_addon_chose_does_not_count() -> None:
    with bench() as here:
        here.enter()
        asked = stacked(here, bare(HttpStream))
        asked.layer = TCPLayer(asked.context)
        assert isinstance(ask(asked, HELLO), CloseLayer)


def test_a_choice_is_taken_back_while_bytes_are_awaited() -> None:
    with bench() as here:
        here.enter()
        asked = stacked(here, bare(HttpStream))
        asked.layer = bare(TCPLayer)
        assert ask(asked, HELLO[:10]) is None


def test_an_error_leads_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The engine's own choice, which comes next, would be to relay."""

    def broken(data: bytes) -> None:
        raise IndexError("secret bytes")

    monkeypatch.setattr(tls_routing, "parse_client_hello", broken)
    with bench() as here:
        assert isinstance(inside(here, HELLO), CloseLayer)
    assert caplog.messages == ["no protocol could be chosen (IndexError); the connection is closed"]


@pytest.mark.parametrize("addon", [TlsRouting(), Guard()])
def test_interception_is_insisted_on(addon: TlsRouting | Guard) -> None:
    with bench() as here:
        data = tls.ClientHelloData(context.Context(here.client, OPTIONS), tls.ClientHello(HELLO[9:]), True, True)
        addon.tls_clienthello(data)
        assert (data.ignore_connection, data.establish_server_tls_first) == (False, False)
