"""The environment of a child: every variable, its value, and what is kept or taken away (spec B9.4)."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.child_env import (
    ANY_VARIABLES,
    BYPASS_VARIABLES,
    CA_VARIABLES,
    HTTP_VARIABLES,
    SSH_MARKER,
    ChildRoute,
    child_env,
    has_proxy_url_env_vars,
)
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.settings import NetworkSettings

HTTP = ChildRoute("127.0.0.1:3128")
BOTH = ChildRoute("127.0.0.1:3128", "127.0.0.1:8081")
TUNNEL = "ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:8081 %h %p'"

LOCAL = "localhost,127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"
CLOSED_LOCALLY = {name: "" for name in BYPASS_VARIABLES}
ALWAYS = {
    **{name: "http://127.0.0.1:3128" for name in HTTP_VARIABLES},
    "ELECTRON_GET_USE_PROXY": "true",
    "NODE_USE_ENV_PROXY": "1",
    "CODEX_NETWORK_PROXY_ACTIVE": "1",
}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        pytest.param(
            HTTP,
            {
                **ALWAYS,
                **CLOSED_LOCALLY,
                **{name: "http://127.0.0.1:3128" for name in ANY_VARIABLES},
                "CODEX_NETWORK_ALLOW_LOCAL_BINDING": "0",
            },
            id="HTTP alone, for everything",
        ),
        pytest.param(
            BOTH,
            {
                **ALWAYS,
                **CLOSED_LOCALLY,
                **{name: "socks5h://127.0.0.1:8081" for name in ANY_VARIABLES},
                "CODEX_NETWORK_ALLOW_LOCAL_BINDING": "0",
                "GIT_SSH_COMMAND": SSH_MARKER + TUNNEL,
            },
            id="SOCKS for what is not HTTP, names resolved by the proxy, ssh through it",
        ),
        pytest.param(
            ChildRoute("[::1]:3128", ca_bundle="/home/proxy/ca-bundle.pem", allow_local_binding=True),
            {
                **{name: "http://[::1]:3128" for name in (*HTTP_VARIABLES, *ANY_VARIABLES)},
                **{name: "/home/proxy/ca-bundle.pem" for name in CA_VARIABLES},
                **{name: LOCAL for name in BYPASS_VARIABLES},
                "ELECTRON_GET_USE_PROXY": "true",
                "NODE_USE_ENV_PROXY": "1",
                "CODEX_NETWORK_PROXY_ACTIVE": "1",
                "CODEX_NETWORK_ALLOW_LOCAL_BINDING": "1",
            },
            id="interception, and everything local open",
        ),
    ],
)
def test_an_empty_environment_becomes(route: ChildRoute, expected: dict[str, str]) -> None:
    assert child_env({}, route) == expected


def test_a_listener_on_every_address_is_reached_on_loopback() -> None:
    env = child_env({}, ChildRoute("0.0.0.0:3128", "[::]:8081"))
    assert (env["HTTP_PROXY"], env["ALL_PROXY"]) == ("http://127.0.0.1:3128", "socks5h://[::1]:8081")


@pytest.mark.parametrize("name", [*HTTP_VARIABLES, *ANY_VARIABLES, *BYPASS_VARIABLES])
def test_what_led_elsewhere_is_replaced(name: str) -> None:
    assert child_env({name: "http://elsewhere.example"}, BOTH)[name] == child_env({}, BOTH)[name]


def test_the_names_are_those_that_programs_read() -> None:
    """Both spellings of what is read in both; npm, yarn and bundler have their own."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "WS_PROXY", "WSS_PROXY", "NO_PROXY"):
        env = child_env({}, BOTH)
        assert env[name] == env[name.lower()]
    assert len(HTTP_VARIABLES) == 21
    assert len(CA_VARIABLES) == 13


@pytest.mark.parametrize(
    ("local", "own_network", "expected"),
    [
        pytest.param(False, True, "localhost,127.0.0.1,::1", id="its own loopback, which is nobody else's"),
        pytest.param(True, True, "localhost,127.0.0.1,::1", id="and nothing more, whatever is open"),
    ],
)
def test_in_a_network_of_its_own_only_loopback_is_direct(local: bool, own_network: bool, expected: str) -> None:
    env = child_env({}, ChildRoute("127.0.0.1:3128", allow_local_binding=local, own_network=own_network))
    assert {env[name] for name in BYPASS_VARIABLES} == {expected}


JAVA_PROXY = "-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=3128 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=3128"


def test_java_is_not_told_twice() -> None:
    route = ChildRoute("127.0.0.1:3128", java=True, java_roots="/a folder/x.p12")
    once = child_env({"JAVA_TOOL_OPTIONS": "-Xmx1g"}, ChildRoute("127.0.0.1:9", java=True, java_roots="/y.p12"))
    again = child_env(once, route)["JAVA_TOOL_OPTIONS"]
    assert again.startswith(f"-Xmx1g -Dhttp.nonProxyHosts= {JAVA_PROXY} -D")
    assert again.count("trustStore=") == again.count("proxyPort=3128") - 1 == 1
    assert '-Djavax.net.ssl.trustStore="/a folder/x.p12"' in again
    quoted = child_env({"JAVA_TOOL_OPTIONS": again}, route)["JAVA_TOOL_OPTIONS"]
    assert quoted.startswith(again), "what is quoted is left alone; the last word counts"


@pytest.mark.parametrize(
    ("base", "route", "expected"),
    [
        pytest.param({}, HTTP, None, id="no Java"),
        pytest.param(
            {}, ChildRoute("127.0.0.1:3128", java=True), f"-Dhttp.nonProxyHosts= {JAVA_PROXY}", id="the proxy alone"
        ),
        pytest.param(
            {"JAVA_TOOL_OPTIONS": " -Xmx1g "},
            ChildRoute("127.0.0.1:3128", allow_local_binding=True, java=True, java_roots="/p/ca-bundle.p12"),
            f"-Xmx1g -Dhttp.nonProxyHosts=localhost|127.0.0.1|[::1] {JAVA_PROXY} "
            "-Djavax.net.ssl.trustStore=/p/ca-bundle.p12 -Djavax.net.ssl.trustStoreType=PKCS12 "
            "-Djavax.net.ssl.trustStorePassword=changeit",
            id="roots, and the user's own words first",
        ),
        pytest.param(
            {},
            ChildRoute("[::1]:3128", java=True),
            f"-Dhttp.nonProxyHosts= {JAVA_PROXY.replace('127.0.0.1', '::1')}",
            id="IPv6 without brackets",
        ),
    ],
)
def test_java_has_options_in_place_of_variables(base: dict[str, str], route: ChildRoute, expected: str | None) -> None:
    assert child_env(base, route).get("JAVA_TOOL_OPTIONS") == expected


def test_an_ssh_command_of_ours_is_not_left_to_children_without_socks() -> None:
    assert "GIT_SSH_COMMAND" not in child_env({"GIT_SSH_COMMAND": SSH_MARKER + TUNNEL}, HTTP)


def test_everything_else_is_kept() -> None:
    base = {"PATH": "/bin", "SSL_CERT_FILE": "/own.pem", "EMPTY": ""}
    assert child_env(base, HTTP).items() >= base.items()


def test_the_base_is_left_as_it_is() -> None:
    base = {"HTTP_PROXY": "http://elsewhere.example", "TOKEN": "canary"}
    child_env(base, ChildRoute("127.0.0.1:1", secrets=("TOKEN",)))
    assert base == {"HTTP_PROXY": "http://elsewhere.example", "TOKEN": "canary"}


def test_secrets_that_hooks_inject_are_taken_away() -> None:
    env = child_env({"TOKEN": "canary", "OTHER": "kept"}, ChildRoute("127.0.0.1:1", secrets=("TOKEN", "ABSENT")))
    assert "canary" not in env.values()
    assert env["OTHER"] == "kept"


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param("", SSH_MARKER + TUNNEL, id="an empty one is set"),
        pytest.param("ssh -i key", "ssh -i key", id="the user's own is kept"),
        pytest.param(SSH_MARKER + "ssh -o old", SSH_MARKER + TUNNEL, id="ours from another start is refreshed"),
    ],
)
def test_the_ssh_command(own: str, expected: str) -> None:
    assert child_env({"GIT_SSH_COMMAND": own}, BOTH)["GIT_SSH_COMMAND"] == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"PATH": "/bin", "NO_PROXY": "localhost"}, False),
        ({"HTTPS_PROXY": "  "}, False),
        ({"HTTPS_PROXY": "http://127.0.0.1:1"}, True),
        ({"all_proxy": "socks5://127.0.0.1:1"}, True),
        ({"npm_config_proxy": "x"}, True),
    ],
)
def test_whether_an_environment_names_a_proxy(environ: dict[str, str], expected: bool) -> None:
    assert has_proxy_url_env_vars(environ) is expected


@pytest.mark.parametrize("name", [*HTTP_VARIABLES, *ANY_VARIABLES])
def test_every_variable_that_is_set_counts_as_naming_one(name: str) -> None:
    assert has_proxy_url_env_vars({name: "http://127.0.0.1:1"})


@pytest.mark.parametrize(("mode", "socks"), [(NetworkMode.FULL, "127.0.0.1:8081"), (NetworkMode.LIMITED, None)])
def test_limited_mode_leads_nobody_to_socks(mode: NetworkMode, socks: str | None) -> None:
    route = ChildRoute.of(NetworkSettings(mode=mode), "127.0.0.1:3128", "127.0.0.1:8081", None)
    assert route.socks == socks
