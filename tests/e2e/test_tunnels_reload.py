"""After a reload: open intercepted tunnels end, or obey the new rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.kit.answers import BLOCKS, check_text_block
from tests.kit.h2_client import Http2Client
from tests.kit.h2_client import get as h2_get
from tests.kit.hooks import API, CANARY, HOOKED, HOOKED_UNREAD, HOOKS, RAW, SECRET_VARIABLE, Hook, Inject, inspecting
from tests.kit.inner import (
    CUT,
    EVERY_INNER_DOOR,
    HTTP1,
    HTTP2,
    OPENERS,
    Inner,
    InnerDoor,
    InnerHttp2Door,
    Opener,
    Refused,
    enter,
    enter_h2,
    http1_bytes,
    open_tunnel,
)
from tests.kit.origins import HttpOrigin
from tests.kit.policies import Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client
from tests.kit.tls import TestAuthority
from tests.kit.websocket import frame, read_frame, upgrade
from tests.kit.wire import Response

doors = pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in EVERY_INNER_DOOR])
openers = pytest.mark.parametrize("opener", [pytest.param(opener, id=name) for name, opener in OPENERS.items()])


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority, tls_origin: HttpOrigin
) -> Iterator[ProxyProcess]:
    environment = {"SSL_CERT_FILE": str(authority.bundle), SECRET_VARIABLE: CANARY}
    with ProxyProcess(tmp_path_factory.mktemp("reload"), HOOKED, environment=environment) as proxy:
        yield proxy


@pytest.fixture
def running(own: ProxyProcess) -> ProxyProcess:
    """With the first configuration again, whatever the test before has written."""
    own.reload(HOOKED.toml())
    return own


CLOSING = [
    pytest.param(replace(HOOKED, allowed=(RAW,)), "not_allowed", id="the host is no longer allowed"),
    pytest.param(replace(HOOKED, denied=(API,)), "denied", id="the host is denied"),
    pytest.param(
        replace(HOOKED, allow_local_binding=False), "not_allowed_local", id="its address is no longer allowed"
    ),
    pytest.param(HOOKED_UNREAD, "mitm_required", id="interception is off"),
]


@openers
@pytest.mark.parametrize(("policy", "reason"), CLOSING)
def test_tunnels_end_with_a_policy_that_closes_the_host(
    policy: Policy, reason: str, opener: Opener, running: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    target = f"{API}:{tls_origin.port}"
    idle, used = opener(running, target), enter(running, target, opener=opener)
    streams = enter_h2(running, target, opener)
    with idle, used, streams.client:
        assert used.ask(http1_bytes(target.encode(), Inner(path=b"/repos/x"))).status == 200
        assert streams.ask(h2_get(target, "/repos/x")).status == 200
        running.reload(policy.toml())
        assert idle.ended()
        assert used.ended()
        assert streams.ended()
    with pytest.raises(Refused) as refused:
        opener(running, target)
    assert refused.value.outcome.word == reason


def test_a_tunnel_ends_when_its_host_is_no_longer_read(
    running: ProxyProcess, tls_origin: HttpOrigin, authority: TestAuthority
) -> None:
    target = f"{API}:{tls_origin.port}"
    with enter(running, target) as client:
        assert client.ask(http1_bytes(target.encode(), Inner(path=b"/repos/x"))).status == 200
        running.reload(inspecting(Hook(RAW)).toml())
        assert client.ended()
    with open_tunnel(running, target) as client:
        client.start_tls(authority.client_context(), API)
        assert client.ask(http1_bytes(target.encode(), Inner(path=b"/t"))).status == 200, "only relayed now"


@openers
def test_a_tunnel_that_was_only_relayed_ends_when_its_host_is_hooked(
    opener: Opener, running: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    with opener(running, f"{RAW}:{tls_origin.port}") as client:
        running.reload(inspecting(*HOOKS, Hook(RAW)).toml())
        assert client.ended()


@doors
def test_an_open_tunnel_obeys_new_hooks(door: InnerDoor, running: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{API}:{tls_origin.port}"
    alpn = HTTP2 if isinstance(door, InnerHttp2Door) else HTTP1
    with enter(running, target, alpn, opener=door.opener) as client:
        ask = asking(door, client, target)
        assert ask("/repos/x").status == 200
        running.reload(inspecting(Hook(API, ("GET",), ("/repos/y",), inject=(Inject(),))).toml())
        assert (ask("/repos/x").text, ask("/repos/y").status) == (BLOCKS["mitm_hook_denied"][1], 200)


def asking(door: InnerDoor, client: Client, target: str) -> Callable[[str], Response]:
    if not isinstance(door, InnerHttp2Door):
        return lambda path: client.ask(http1_bytes(target.encode(), Inner(path=path.encode())))
    streams = Http2Client(client)
    return lambda path: streams.ask(h2_get(target, path))


def test_an_open_tunnel_obeys_a_narrower_mode(running: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{API}:{tls_origin.port}"
    with enter(running, target) as client:
        assert client.ask(http1_bytes(target.encode(), Inner(b"POST", b"/repos/x"))).status == 200
        running.reload(replace(HOOKED, mode="limited").toml())
        check_text_block(client.ask(http1_bytes(target.encode(), Inner(b"POST", b"/repos/x"))), "method_not_allowed")
        assert client.ask(http1_bytes(target.encode(), Inner(path=b"/repos/x"))).status == 200


@doors
def test_a_broken_configuration_closes_tunnels_as_well(
    door: InnerDoor, running: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    target = f"{API}:{tls_origin.port}"
    with enter(running, target, opener=door.opener) as client:
        assert client.ask(http1_bytes(target.encode(), Inner(path=b"/repos/x"))).status == 200
        running.reload("= [")
        assert client.ended()
    assert door.send(running, target.encode(), Inner(path=b"/repos/x")).word in ("500", "reply 1", CUT)


def test_h07_a_websocket_ends_with_its_policy(running: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{API}:{tls_origin.port}"
    with enter(running, target) as client:
        assert upgrade(client, "/ws", target).status == 101
        assert read_frame(client.stream) == (1, b"hello")
        client.send(frame(b"still here", mask=b"abcd"))
        assert read_frame(client.stream) == (1, b"still here")
        running.reload(replace(HOOKED, denied=(API,)).toml())
        assert client.ended()


def test_h07_a_plain_websocket_ends_with_its_policy(running: ProxyProcess, origin: HttpOrigin) -> None:
    target = f"{RAW}:{origin.port}"
    with Client(running.http) as client:
        assert upgrade(client, f"http://{target}/ws", target).status == 101
        assert read_frame(client.stream) == (1, b"hello")
        running.reload(replace(HOOKED, denied=(RAW,)).toml())
        assert client.ended()


def test_h07_a_websocket_ends_with_a_narrower_mode(running: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target = f"{API}:{tls_origin.port}"
    with enter(running, target) as client:
        assert upgrade(client, "/ws", target).status == 101
        assert read_frame(client.stream) == (1, b"hello")
        running.reload(replace(HOOKED, mode="limited").toml())
        assert client.ended()
