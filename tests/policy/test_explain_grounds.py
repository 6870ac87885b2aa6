"""The grounds of an explanation, their places in the file, and its fields."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from codex_network_proxy.policy.config import load_with_origins
from codex_network_proxy.policy.explain import explain
from codex_network_proxy.policy.inquiry import questions
from codex_network_proxy.policy.origins import NO_ORIGINS
from codex_network_proxy.policy.upstream import read_routes

from .explanations import HEAD, HOOK, LIMITED, LISTS, MITM, Names, a_world, explained


@pytest.mark.parametrize(
    ("text", "addresses", "looked_up"),
    [
        pytest.param("listed.test", [("93.184.216.34", "public")], True, id="an allowed name"),
        pytest.param("private.test", [("10.0.0.1", "private")], True, id="a name that is private"),
        pytest.param("other.test", [("93.184.216.34", "public")], False, id="a name the proxy refuses unseen"),
        pytest.param("127.0.0.1", [("127.0.0.1", "loopback")], True, id="a literal"),
    ],
)
def test_the_addresses_and_their_classes(text: str, addresses: list[tuple[str, str]], looked_up: bool) -> None:
    names = Names()
    explanation = explained(text, names=names)
    assert [(str(found.address), found.kind) for found in explanation.addresses] == addresses
    assert explanation.looked_up is looked_up
    assert len(names.asked) <= 1, "whatever is tried, each name is looked up once"


@pytest.mark.parametrize(
    ("text", "table", "grounds"),
    [
        pytest.param("a.wide.test", LISTS, [("allow", "*.wide.test", 5)], id="an entry of the allowlist"),
        pytest.param("evil.wide.test", LISTS, [("denied", "evil.wide.test", 8)], id="an entry of the denylist"),
        pytest.param("other.test", LISTS, [("not_allowed", None, None)], id="no entry at all"),
        pytest.param(
            "https://hooked.test/other/x",
            MITM + HOOK,
            [("allow", "hooked.test", 6), ("allow", "mitm_hooks[1]", 15)],
            id="an entry and a hook",
        ),
        pytest.param(
            "ws://listed.test/",
            LIMITED,
            [("allow", "listed.test", 5), ("method_not_allowed", None, None)],
            id="an entry and the mode",
        ),
    ],
)
def test_the_grounds_and_their_places(text: str, table: str, grounds: list[tuple[str, str | None, int | None]]) -> None:
    found = explained(text, table).grounds
    assert [(one.ruling.reason, one.ruling.rule, one.place and one.place.line) for one in found] == grounds


def test_what_comes_from_no_file_has_no_place() -> None:
    loaded, _ = load_with_origins(HEAD + LISTS, file="c.toml")
    for text, change in (
        ("listed.test", 'remove "listed.test" from allowed_domains'),
        ("evil.wide.test", 'remove "evil.wide.test" from denied_domains'),
    ):
        explanation = asyncio.run(explain(questions(text), loaded.settings, a_world(), NO_ORIGINS))
        assert explanation.grounds[0].place is None
        assert explanation.remedy.changes[0] == change


def test_an_entry_that_another_profile_brought_is_found_there() -> None:
    text = HEAD.replace('"w"', '"child"') + LISTS + "[permissions.child]\nextends = 'w'\n"
    loaded, origins = load_with_origins(text, file="c.toml")
    explanation = asyncio.run(explain(questions("listed.test"), loaded.settings, a_world(), origins))
    place = explanation.grounds[0].place
    assert place is not None
    assert (place.path, place.line) == ("permissions.w.network.allowed_domains[0]", 5)


def test_a_file_that_selects_nothing_has_no_places() -> None:
    loaded, origins = load_with_origins("[permissions.w.network]\nenabled = true", file="c.toml")
    explanation = asyncio.run(explain(questions("listed.test"), loaded.settings, a_world(), origins))
    assert explanation.remedy.changes == ("write enabled = true", 'add "listed.test:443" to allowed_domains')


def test_the_fields_of_a_block() -> None:
    fields = explained("evil.wide.test").fields()
    assert fields == {
        "host": "evil.wide.test",
        "port": 443,
        "protocol": "https_connect",
        "method": "CONNECT",
        "decision": "deny",
        "reason": "denied",
        "code": "blocked-by-denylist",
        "message": "Codex blocked this request: domain denied by policy.",
        "rulings": [
            {
                "decision": "deny",
                "reason": "denied",
                "source": "baseline_policy",
                "rule": "evil.wide.test",
                "file": "c.toml",
                "line": 8,
            }
        ],
        "addresses": [{"address": "93.184.216.34", "class": "public"}],
        "looked_up": False,
        "inspected": False,
        "changes": [
            'remove "evil.wide.test" from denied_domains (c.toml:8)',
            'remove "**.evil.wide.test" from denied_domains (c.toml:8)',
        ],
    }


def test_the_fields_of_a_request_through_an_upstream_proxy() -> None:
    loaded, origins = load_with_origins(HEAD + LISTS + "allow_local_binding = true\n", file="c.toml")
    routes, _ = read_routes({"HTTPS_PROXY": "http://me:canary@proxy.test:3129"})
    world = replace(a_world(), routes=routes)
    found = asyncio.run(explain(questions("listed.test"), loaded.settings, world, origins))
    fields = found.fields()
    assert fields["decision"] == "allow"
    assert fields["upstream"] == "http://proxy.test:3129"
    assert "canary" not in repr(fields)
    assert (found.message, fields["inspected"]) == ("The tunnel passes; the proxy does not read it.", False)
    read = explained("http://listed.test/")
    assert (read.message, read.fields()["inspected"]) == ("The request passes; the proxy reads it.", True)
