"""Warnings: legal, and probably not what was meant (spec A1.4). Each names the place and what to do."""

from __future__ import annotations

import pytest

from codex_network_proxy.policy.config import load_config

QUIET = {"enabled": "true", "allowed_domains": "['a.com']"}


def warnings(toml: str, **keys: str) -> list[str]:
    """The warnings of a network table that gives none by itself, but for what `keys` and `toml` change."""
    lines = [f"{key} = {value}" for key, value in (QUIET | keys).items() if value]
    text = "\n".join(['default_permissions = "w"', "[permissions.w.network]", *lines, toml])
    return [str(warning) for warning in load_config(text, file="config.toml").warnings]


def hook(*prefixes: str, host: str = "a.com", edits: str = "") -> str:
    listed = ", ".join(f"'{prefix}'" for prefix in prefixes or ("/a/",))
    return (
        f"mitm = true\n[[permissions.w.network.mitm_hooks]]\nhost = '{host}'\n{edits}\n"
        f"match = {{ methods = ['GET'], path_prefixes = [{listed}] }}"
    )


def test_a_plain_configuration_has_no_warning() -> None:
    assert warnings("denied_domains = ['b.com']") == []


SWITCHES = [
    pytest.param({"enabled": "false"}, "enabled: network.enabled is false; skipping proxy listeners", id="disabled"),
    pytest.param(
        {"enabled": ""},
        "config.toml:2 permissions.w.network.enabled: network.enabled is false",
        id="disabled by default, on the line of the table",
    ),
    pytest.param(
        {"allowed_domains": "[]"},
        "allowed_domains: is empty, so every request is blocked; write hosts",
        id="an empty allowlist",
    ),
    pytest.param({"allowed_domains": ""}, "allowed_domains: is empty, so every request is blocked", id="no allowlist"),
    pytest.param(
        {"mode": "'limited'"},
        "mitm: is off, so limited mode refuses HTTPS with mitm_required; write mitm",
        id="limited mode without interception",
    ),
    pytest.param(
        {"mitm_hooks": "[{ host = 'a.com', match = { methods = ['GET'], path_prefixes = ['/'] } }]"},
        "mitm: is off, so hooked hosts are refused with mitm_required and no secret is read; write mitm = true",
        id="hooks without interception",
    ),
    pytest.param(
        {"proxy_url": "'0.0.0.0:8080'"},
        "proxy_url: 0.0.0.0:8080 is not loopback and is clamped to 127.0.0.1:8080; write",
        id="a listener that is clamped",
    ),
    pytest.param(
        {"proxy_url": "'0.0.0.0'", "dangerously_allow_non_loopback_proxy": "true"},
        "proxy_url: DANGEROUS: 0.0.0.0:3128 is reachable from other machines; write",
        id="a listener that is open",
    ),
    pytest.param(
        {"socks_url": "'[::]'"}, "socks_url: [::]:8081 is not loopback", id="a SOCKS listener that is clamped"
    ),
    pytest.param(
        {"proxy_url": "'example.com'"},
        'proxy_url: names are not resolved here, so "example.com" means 127.0.0.1; write an address',
        id="a name as address",
    ),
    pytest.param(
        {"socks_url": "'127.0.0.1:x'"},
        'socks_url: "x" is not a port, so the default 8081 is used; write',
        id="a port that is none",
    ),
]


@pytest.mark.parametrize(("keys", "words"), SWITCHES)
def test_a_switch_that_does_not_do_what_it_seems_to(keys: dict[str, str], words: str) -> None:
    (warning,) = warnings("", **keys)
    assert words in warning
    assert "; " in warning


def test_a_socks_listener_that_is_off_needs_no_warning() -> None:
    assert warnings("", socks_url="'0.0.0.0'", enable_socks5="false") == []


# Allowed pattern, denied pattern, and whether the second leaves nothing of the first.
SHADOWS = [
    pytest.param("a.com", "a.com", True, id="the same host"),
    pytest.param("x.a.com", "*.a.com", True, id="a host below a denied suffix"),
    pytest.param("*.x.a.com", "**.a.com", True, id="a suffix below a denied tree"),
    pytest.param("a.com:443", "a.com", True, id="one port of a denied host"),
    pytest.param("10.1.0.0/16", "10.0.0.0/8", True, id="a range in a denied range"),
    pytest.param("a.com", "*.a.com", False, id="the apex is not below the suffix"),
    pytest.param("**.a.com", "*.a.com", False, id="the tree keeps its apex"),
    pytest.param("a.com", "a.com:443", False, id="the host keeps its other ports"),
    pytest.param("*.a.com", "x.a.com", False, id="a suffix keeps its other hosts"),
]


@pytest.mark.parametrize(("allowed", "denied", "shadowed"), SHADOWS)
def test_an_allowed_pattern_that_a_denied_one_shadows(allowed: str, denied: str, shadowed: bool) -> None:
    found = warnings(f"denied_domains = ['{denied}']", allowed_domains=f"['good.com', '{allowed}']")
    expected = (
        f'config.toml:4 permissions.w.network.allowed_domains[1]: "{allowed}" is never allowed, '
        f"because {denied} is denied; remove one of the two entries"
    )
    assert found == ([expected] if shadowed else [])


def test_a_shadow_in_the_map_has_its_place_there() -> None:
    (warning,) = warnings("domains = { 'B.com' = 'allow', 'b.com' = 'deny' }")
    assert warning.startswith('config.toml:5 permissions.w.network.domains."B.com": "b.com" is never allowed')


BROAD = [
    pytest.param("*.net", True, id="a top-level domain"),
    pytest.param("**.dev", True, id="a top-level domain and its apex"),
    pytest.param("*.github.io", True, id="a domain where strangers get names"),
    pytest.param("0.0.0.0/0", True, id="all of IPv4"),
    pytest.param("*.openai.com", False, id="a domain of one owner"),
]


@pytest.mark.parametrize(("pattern", "broad"), BROAD)
def test_a_pattern_that_is_wider_than_most_people_mean(pattern: str, broad: bool) -> None:
    found = warnings("", allowed_domains=f"['{pattern}']")
    assert len(found) == broad
    assert all(f'allowed_domains[0]: "{pattern}" covers' in warning and "; write" in warning for warning in found)


def test_a_wide_denied_pattern_is_no_mistake() -> None:
    assert warnings("denied_domains = ['*.net']") == []


RELAYS = [
    pytest.param("*.translate.goog", "", "example-com.translate.goog", id="a translated page"),
    pytest.param("**.google.com", "", "translate.google.com", id="a translator below a wildcard"),
    pytest.param("r.jina.ai", "", "r.jina.ai", id="a reader"),
    pytest.param("**.google.com", "translate.google.com", None, id="a relay that is denied"),
]


@pytest.mark.parametrize(("allowed", "denied", "relay"), RELAYS)
def test_a_host_that_fetches_any_address_for_anyone(allowed: str, denied: str, relay: str | None) -> None:
    found = warnings(f"denied_domains = [{denied and repr(denied)}]", allowed_domains=f"['{allowed}']")
    relayed = [warning for warning in found if "fetch any address" in warning]
    assert len(relayed) == (relay is not None)
    assert all(f'allowed_domains[0]: "{allowed}" lets {relay} fetch' in warning for warning in relayed)


SOCKETS = [
    pytest.param("allow_unix_sockets = ['/tmp/example.sock']", None, id="a socket like any other"),
    pytest.param("unix_sockets = { '/var/run/docker.sock' = 'deny' }", None, id="a runtime that is denied"),
    pytest.param(
        "allow_unix_sockets = ['/a.sock', '/home/me/.docker/run/docker.sock']",
        'allow_unix_sockets[1]: "/home/me/.docker/run/docker.sock" is a container runtime, and who may use it controls '
        "this machine; remove it",
        id="docker",
    ),
    pytest.param(
        "unix_sockets = { '/run/../run/containerd/containerd.sock' = 'allow' }",
        'unix_sockets."/run/../run/containerd/containerd.sock": "/run/containerd/containerd.sock" is a container',
        id="another runtime, in the map",
    ),
    pytest.param(
        f"allow_unix_sockets = ['/{'a' * 103}']",
        "is longer than the 103 bytes that a socket's address may have; write a shorter path",
        id="a path that no socket can have",
    ),
    pytest.param(
        "dangerously_allow_all_unix_sockets = true",
        "dangerously_allow_all_unix_sockets: opens every unix socket of this machine, container runtimes and key "
        "agents included; list paths in allow_unix_sockets",
        id="all of them",
    ),
]


@pytest.mark.parametrize(("toml", "expected"), SOCKETS)
def test_a_socket_that_is_the_whole_machine(toml: str, expected: str | None) -> None:
    found = warnings(toml)
    assert len(found) == (expected is not None)
    assert expected is None or expected in found[0]


HOOKED_HOSTS = [
    pytest.param("a.com", "['a.com']", None, id="covered"),
    pytest.param("x.a.com", "['*.a.com']", None, id="covered by a wildcard"),
    pytest.param("a.com", "['a.com:8443']", None, id="covered on another port than 443"),
    pytest.param("::1", "['::1']", None, id="an address that is covered"),
    pytest.param("b.com", "['a.com']", 'add "b.com" to allowed_domains', id="not covered"),
    pytest.param("::1", "['a.com']", 'add "[::1]" to allowed_domains', id="an address that is not covered"),
    pytest.param("a.com", "[]", 'add "a.com" to allowed_domains', id="an empty list covers nothing"),
]


@pytest.mark.parametrize(("host", "allowed", "repair"), HOOKED_HOSTS)
def test_a_hook_on_a_host_that_is_not_allowed(host: str, allowed: str, repair: str | None) -> None:
    found = [warning for warning in warnings(hook(host=host), allowed_domains=allowed) if "before the hook" in warning]
    assert len(found) == (repair is not None)
    assert all(
        f"mitm_hooks[0].host: is not covered by the allowlist, so requests are blocked before the hook; {repair}"
        in each
        for each in (warning.replace(f'"{host}" is not', "is not") for warning in found)
    )


def test_a_hook_on_a_host_that_is_denied() -> None:
    (warning,) = warnings("denied_domains = ['x.a.com']\n" + hook(host="x.a.com"), allowed_domains="['*.a.com']")
    assert (
        'mitm_hooks[0].host: "x.a.com" is denied by x.a.com, so requests are blocked before the hook; remove one'
        in warning
    )


PREFIXES = [
    pytest.param("/", None, id="every path"),
    pytest.param("/repos/openai/", None, id="a prefix that ends in a slash"),
    pytest.param("pattern:/repos/*", None, id="a pattern"),
    pytest.param("pattern:**/x", None, id="a pattern that begins with a star"),
    pytest.param("/a/.", "also matches /a/.-and-more", id="the beginning of a hidden name"),
    pytest.param(
        "/repos/openai",
        'also matches /repos/openai-and-more; write "/repos/openai/", or "pattern:/repos/openai"',
        id="a prefix without a slash at its end",
    ),
    pytest.param("literal:/x", 'also matches /x-and-more; write "/x/"', id="a literal prefix without a slash"),
    pytest.param("repos/", 'never matches; write "/repos/"', id="a prefix without a slash at its beginning"),
    pytest.param("pattern:repos/*", 'never matches; write "pattern:/repos/*"', id="a pattern without that slash"),
    pytest.param("/a?b=", "never matches; write a path without query", id="a query in the prefix"),
    pytest.param("/a/../b/", "never matches; write a path without query, dot segments", id="a dot segment"),
    pytest.param("/a%2fb/", "never matches; write a path without", id="an escaped slash"),
    pytest.param("/a%2", "also matches", id="the beginning of an escape"),
]


@pytest.mark.parametrize(("prefix", "words"), PREFIXES)
def test_a_prefix_that_matches_more_or_less_than_it_seems_to(prefix: str, words: str | None) -> None:
    found = warnings(hook("/ok/", prefix))
    assert len(found) == (words is not None)
    assert all(f'mitm_hooks[0].match.path_prefixes: "{prefix}" ' in each and (words or "") in each for each in found)


def test_a_prefix_of_a_named_hook_has_its_place_there() -> None:
    named = "mitm.hooks.x = { host = 'a.com', methods = ['GET'], path_prefixes = ['/x'], action = ['y'] }"
    prefix, action = sorted(warnings(f"{named}\nmitm.actions.z.strip_request_headers = ['a']"), reverse=True)
    assert 'permissions.w.network.mitm.hooks.x.path_prefixes: "/x" also matches' in prefix
    assert (
        'permissions.w.network.mitm.hooks.x.action[0]: "y" is not defined in mitm.actions and does nothing; '
        "the actions here are `z`" in action
    )


def test_an_edit_of_a_header_that_belongs_to_the_proxy() -> None:
    edits = (
        "actions.strip_request_headers = ['Host', 'cookie']\n"
        "actions.inject_request_headers = [{ name = 'Content-Length', secret_env_var = 'A' }]"
    )
    assert [warning.partition("mitm_hooks[0]: ")[2] for warning in warnings(hook(edits=edits))] == [
        "editing the header host has no effect, it belongs to the proxy; remove that entry",
        "editing the header content-length has no effect, it belongs to the proxy; remove that entry",
    ]
