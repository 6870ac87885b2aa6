"""What a new configuration changes is told line by line, and no line holds a secret (spec A1.6)."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.policy.changes import changes, needs_restart
from codex_network_proxy.policy.hosts import parse_host
from codex_network_proxy.policy.listeners import ListenAddress
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import HookSettings, InjectSettings, NetworkSettings, Place

NOTHING = NetworkSettings()


def patterns(*texts: str) -> object:
    return tuple(map(parse_pattern, texts))


def changed(**fields: object) -> NetworkSettings:
    return replace(NOTHING, **fields)  # type: ignore[arg-type]  # rows name real fields


def hook(index: int, host: str, path: str = "/secret-path/", prefix: str = "canary ", line: int = 1) -> HookSettings:
    inject = InjectSettings("authorization", "TOKEN", prefix=prefix)
    place = Place("mitm_hooks", line)
    return HookSettings(index, parse_host(host), ("GET", "POST"), (path,), inject=(inject,), place=place)


ONE, OTHER = hook(0, "one.test"), hook(1, "other.test")


@pytest.mark.parametrize(
    ("old", "new", "lines"),
    [
        pytest.param(NOTHING, NOTHING, [], id="nothing"),
        pytest.param(
            changed(allowed=patterns("b.test", "a.test")),
            changed(allowed=patterns("A.test.", "c.test", "*.d.test")),
            [
                "config entry added to allowlist: *.d.test",
                "config entry added to allowlist: c.test",
                "config entry removed from allowlist: b.test",
            ],
            id="entries of the allowlist, whatever their spelling",
        ),
        pytest.param(
            NOTHING,
            changed(denied=patterns("evil.test")),
            ["config entry added to denylist: evil.test"],
            id="an entry of the denylist",
        ),
        pytest.param(
            changed(allowed=patterns("a.test")),
            changed(denied=patterns("a.test")),
            ["config entry removed from allowlist: a.test", "config entry added to denylist: a.test"],
            id="an entry that moves",
        ),
        pytest.param(
            changed(unix_sockets=("/a.sock",)),
            changed(unix_sockets=("/b.sock",), denied_unix_sockets=("/a.sock",)),
            [
                "config entry added to unix sockets: /b.sock",
                "config entry removed from unix sockets: /a.sock",
                "config entry added to denied unix sockets: /a.sock",
            ],
            id="sockets",
        ),
        pytest.param(
            changed(mode=NetworkMode.FULL),
            changed(
                mode=NetworkMode.LIMITED, enabled=True, mitm=True, allow_local_binding=True, allow_upstream_proxy=False
            ),
            [
                "config enabled changed from false to true",
                "config mode changed from full to limited",
                "config allow_local_binding changed from false to true",
                "config allow_upstream_proxy changed from true to false",
                "config mitm changed from false to true",
            ],
            id="switches",
        ),
        pytest.param(
            changed(allow_all_unix_sockets=True),
            NOTHING,
            ["config dangerously_allow_all_unix_sockets changed from true to false"],
            id="a switch by its name in the file",
        ),
        pytest.param(
            changed(hooks=(ONE,)),
            changed(hooks=(hook(0, "other.test"),)),
            [
                "config entry added to mitm_hooks: other.test (GET, POST)",
                "config entry removed from mitm_hooks: one.test (GET, POST)",
            ],
            id="hooks, without paths, headers and secrets",
        ),
        pytest.param(
            changed(hooks=(ONE,)),
            changed(hooks=(hook(0, "one.test", "/other/"),)),
            [
                "config entry added to mitm_hooks: one.test (GET, POST)",
                "config entry removed from mitm_hooks: one.test (GET, POST)",
            ],
            id="a hook that matches something else",
        ),
        pytest.param(
            changed(hooks=(ONE,)), changed(hooks=(hook(0, "one.test", line=9),)), [], id="a hook on another line"
        ),
        pytest.param(
            changed(hooks=(ONE, OTHER)),
            changed(hooks=(hook(0, "other.test"), hook(1, "one.test"))),
            ["config order of mitm_hooks changed"],
            id="hooks in another order",
        ),
        pytest.param(
            changed(hooks=(ONE, hook(1, "one.test"))),
            changed(hooks=(ONE,)),
            ["config order of mitm_hooks changed"],
            id="a hook that stood twice",
        ),
    ],
)
def test_changes(old: NetworkSettings, new: NetworkSettings, lines: list[str]) -> None:
    assert list(changes(old, new)) == lines


def test_a_long_list_is_counted() -> None:
    many = changed(allowed=patterns(*(f"h{number}.test" for number in range(103))))
    assert len(list(changes(NOTHING, many))) == 101
    assert list(changes(many, NOTHING))[-1] == "config entry removed from allowlist: 3 more"


@pytest.mark.parametrize(
    ("fields", "restart"),
    [
        ({"http_listen": ListenAddress(ip_address("127.0.0.1"), 1)}, True),
        ({"socks_listen": ListenAddress(ip_address("127.0.0.1"), 1)}, True),
        ({"enable_socks5": False}, True),
        ({"enable_socks5_udp": False}, True),
        ({"allow_non_loopback": True}, True),
        ({"enabled": True, "mode": NetworkMode.LIMITED}, False),
    ],
)
def test_listeners_are_bound_once(fields: dict[str, object], restart: bool) -> None:
    assert needs_restart(NOTHING, changed(**fields)) is restart
