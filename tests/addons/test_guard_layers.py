"""The guard has the last word on what follows in a tunnel, whatever another addon chose."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy import connection
from mitmproxy.proxy import context, layer
from mitmproxy.proxy.layers import ClientTLSLayer, ServerTLSLayer, TCPLayer, modes
from mitmproxy.proxy.layers.http import HTTPMode, HttpStream

from codex_network_proxy.addons.guard import Guard
from codex_network_proxy.addons.http_layer import PolicedHttpLayer
from codex_network_proxy.addons.tls_routing import CloseLayer

from .flow_kit import bench
from .layers_kit import OPTIONS, bare, stacked


def intercepting(stack: context.Context) -> layer.Layer:
    server = ServerTLSLayer(stack)
    server.child_layer = ClientTLSLayer(stack)
    return server


def half_intercepting(stack: context.Context) -> layer.Layer:
    return ServerTLSLayer(stack)


def relaying(stack: context.Context) -> layer.Layer:
    return TCPLayer(stack)


def policed(stack: context.Context) -> layer.Layer:
    return PolicedHttpLayer(stack, HTTPMode.transparent)


def reversing(stack: context.Context) -> layer.Layer:
    return modes.ReverseProxy(stack)


@pytest.mark.parametrize(
    ("make", "target", "stands"),
    [
        pytest.param(intercepting, "hooked.test:443", True, id="interception of an inspected tunnel"),
        pytest.param(half_intercepting, "hooked.test:443", False, id="TLS towards the origin alone"),
        pytest.param(relaying, "hooked.test:443", False, id="an inspected tunnel, relayed"),
        pytest.param(relaying, "allowed.test:443", True, id="a relayed tunnel"),
        pytest.param(relaying, None, False, id="a relay without a decision"),
        pytest.param(intercepting, "allowed.test:443", False, id="interception of a relayed tunnel"),
        pytest.param(policed, "hooked.test:443", True, id="HTTP, which polices itself"),
        pytest.param(CloseLayer, None, True, id="the end"),
        pytest.param(reversing, "allowed.test:443", False, id="another mode"),
    ],
)
def test_the_guard_has_the_last_word_on_layers(make: Any, target: str | None, stands: bool) -> None:
    """Also over the choices of the engine's own addon, when ours is gone."""
    with bench() as here:
        if target:
            here.enter(target)
        asked = stacked(here, bare(HttpStream))
        chosen = asked.layer = make(asked.context)
        Guard().next_layer(asked)
        assert (asked.layer is chosen) is stands
        assert stands or isinstance(asked.layer, CloseLayer)


def test_a_relay_elsewhere_than_behind_a_connect_does_not_stand() -> None:
    with bench() as here:
        here.enter("allowed.test:443")
        asked = stacked(here, bare(modes.HttpProxy))
        asked.layer = TCPLayer(asked.context)
        Guard().next_layer(asked)
        assert isinstance(asked.layer, CloseLayer)


def test_the_guard_lets_the_engine_wait() -> None:
    with bench() as here:
        asked = stacked(here, bare(HttpStream))
        Guard().next_layer(asked)
        assert asked.layer is None


def test_a_stranger_gets_no_layer() -> None:
    asked = layer.NextLayer(context.Context(connection.Client(peername=("a", 1), sockname=("b", 2)), OPTIONS))
    asked.layer = TCPLayer(asked.context)
    Guard().next_layer(asked)
    assert isinstance(asked.layer, CloseLayer)
