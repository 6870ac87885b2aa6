"""Which protocol comes next? Decided by the CONNECT target alone, never guessed from bytes or from the SNI."""

from __future__ import annotations

import logging

from mitmproxy import tls
from mitmproxy.exceptions import AddonHalt
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.proxy.layers.tls import parse_client_hello

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Host, parse_host

from .http_layer import PolicedHttpLayer
from .judged_tunnels import JudgedTunnel
from .sessions import Session, session_of

logger = logging.getLogger("codex_network_proxy")

CLIENT_HELLO_LIMIT = 64 * 1024
"""Bytes within which a ClientHello must be complete."""

_SERVER_NAME = 0


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
        """Whatever another addon chose does not count, and an error here leads nowhere."""
        try:
            data.layer = route(data, session_of(data.context.client.id))
        except AddonHalt:
            data.layer = None
            raise
        except Exception as error:
            logger.error("no protocol could be chosen (%s); the connection is closed", type(error).__name__)
            data.layer = CloseLayer(data.context)

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        insist_on_interception(data)


def insist_on_interception(data: tls.ClientHelloData) -> None:
    """TLS that has got as far as this is intercepted, and nothing is dialled before a request has passed."""
    data.ignore_connection = False
    data.establish_server_tls_first = False


def route(data: layer.NextLayer, session: Session | None) -> layer.Layer:
    """The one layer that may follow. Raises `AddonHalt` to wait for more bytes."""
    layers = data.context.layers
    if session is None or not layers:
        return CloseLayer(data.context)
    match layers[-1]:
        case modes.HttpProxy():
            return _first(data)
        case HttpStream() | JudgedTunnel():
            return _tunnel(data, session)
        case ClientTLSLayer():
            return PolicedHttpLayer(data.context, HTTPMode.transparent)
        case _:
            return CloseLayer(data.context)


def may_follow(data: layer.NextLayer, session: Session | None) -> bool:
    """Whether the layer that was chosen, by whomever, can lead nowhere but through the policy."""
    tunnel = session.tunnel if session else None
    match data.layer:
        case None | CloseLayer() | HttpLayer():
            return True
        case TCPLayer():
            return tunnel is not None and not tunnel.inspect and isinstance(data.context.layers[-2], HttpStream)
        case ServerTLSLayer(child_layer=ClientTLSLayer()):
            return tunnel is not None and tunnel.inspect
        case _:
            return False


def _first(data: layer.NextLayer) -> layer.Layer:
    received = data.data_client()
    if not received:
        raise AddonHalt
    if received[:1] in b"\x16\x05\x04":
        return CloseLayer(data.context)
    return PolicedHttpLayer(data.context, HTTPMode.regular)


def _tunnel(data: layer.NextLayer, session: Session) -> layer.Layer:
    if session.tunnel is None:
        return CloseLayer(data.context)
    if not session.tunnel.inspect:
        return TCPLayer(data.context, ignore=True)
    received, host = data.data_client(), session.tunnel.request.target.host
    if not _may_be_tls(received) or len(received) > CLIENT_HELLO_LIMIT or not _names(received, host):
        return CloseLayer(data.context)
    # The name that is asked for and verified upstream is the one that was judged, whatever its spelling here.
    data.context.server.sni = host.text
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
        # A name that cannot be read is not the same as none.
        return host.is_literal and all(kind != _SERVER_NAME for kind, _ in hello.extensions)
    try:
        return parse_host(hello.sni) == host
    except InvalidHost:
        return False
