"""Which protocol comes next? Decided by the CONNECT target alone, never guessed from bytes or from the SNI."""

from __future__ import annotations

from mitmproxy.exceptions import AddonHalt
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, HttpLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode, HttpStream
from mitmproxy.proxy.layers.tls import parse_client_hello

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Host, parse_host

from .sessions import Session, session_of

CLIENT_HELLO_LIMIT = 64 * 1024
"""Bytes within which a ClientHello must be complete."""


class CloseLayer(layer.Layer):
    """Ends the connection: bytes that must be understood and are not are cut, never relayed (spec A4.4)."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.Start):
            yield commands.CloseConnection(self.context.client)
        yield from ()


class TlsRouting:
    """Owns `next_layer`: the engine's own detection has ways around interception."""

    name = "codex-tls-routing"

    def next_layer(self, data: layer.NextLayer) -> None:
        if data.layer is None:
            data.layer = route(data, session_of(data.context.client.id))


def route(data: layer.NextLayer, session: Session | None) -> layer.Layer:
    """The one layer that may follow. Raises `AddonHalt` to wait for more bytes."""
    layers = data.context.layers
    if session is None or not layers:
        return CloseLayer(data.context)
    match layers[-1]:
        case modes.HttpProxy():
            return _first(data)
        case HttpStream():
            return _tunnel(data, session)
        case ClientTLSLayer():
            return HttpLayer(data.context, HTTPMode.transparent)
        case _:
            return CloseLayer(data.context)


def _first(data: layer.NextLayer) -> layer.Layer:
    received = data.data_client()
    if not received:
        raise AddonHalt
    if received[:1] in b"\x16\x05\x04":
        return CloseLayer(data.context)
    return HttpLayer(data.context, HTTPMode.regular)


def _tunnel(data: layer.NextLayer, session: Session) -> layer.Layer:
    if session.tunnel is None:
        return CloseLayer(data.context)
    if not session.tunnel.inspect:
        return TCPLayer(data.context, ignore=True)
    received = data.data_client()
    if not _may_be_tls(received) or len(received) > CLIENT_HELLO_LIMIT:
        return CloseLayer(data.context)
    if not _names(received, session.tunnel.request.target.host):
        return CloseLayer(data.context)
    server_tls = ServerTLSLayer(data.context)
    server_tls.child_layer = ClientTLSLayer(data.context)
    return server_tls


def _may_be_tls(received: bytes) -> bool:
    if len(received) < 3:
        return b"\x16\x03".startswith(received[:2])
    return starts_like_tls_record(received)


def _names(received: bytes, host: Host) -> bool:
    """Whether the ClientHello asks for the tunnel's host and no other (spec A4.3). Waits until it is complete."""
    try:
        hello = parse_client_hello(received)
    except ValueError:
        return False
    if hello is None:
        raise AddonHalt
    if hello.sni is None:
        return host.is_literal
    try:
        return parse_host(hello.sni) == host
    except InvalidHost:
        return False
