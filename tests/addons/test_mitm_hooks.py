"""A matched hook removes what the client sent under the names that it sets; it adds nothing here (spec A4.9)."""

from __future__ import annotations

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.mitm_hooks import MitmHooks, describe_match

from .engine_kit import SECRET
from .flow_kit import Bench, Pairs, bench, lines, run


def hooked(here: Bench, fields: Pairs, path: str = "/ok") -> Pairs:
    flow = run(Allowlist().requestheaders, here.flow(f"https://hooked.test{path}", fields))
    MitmHooks().requestheaders(flow)
    assert SECRET not in str(flow.get_state())
    return lines(flow)


def test_every_spelling_is_removed() -> None:
    with bench() as here:
        here.enter()
        mine = [("AUTHORIZATION", "Basic mine"), ("X-Strip", "1"), ("authorization", "Bearer mine"), ("x-strip", "2")]
        assert hooked(here, [*mine, ("x-authorization", "kept")]) == [
            ("x-authorization", "kept"),
            ("host", "hooked.test"),
        ]


def test_a_request_that_no_hook_accepted_is_left_as_it_was() -> None:
    with bench() as here:
        here.enter()
        assert hooked(here, [("authorization", "mine")], "/no") == [("authorization", "mine")]


def test_an_unhooked_request_keeps_its_own() -> None:
    with bench() as here:
        flow = run(Allowlist().requestheaders, here.flow(fields=[("authorization", "mine")]))
        MitmHooks().requestheaders(flow)
        assert ("authorization", "mine") in lines(flow)
        assert flow.comment == ""


def test_the_comment_names_hook_and_headers_without_values() -> None:
    with bench() as here:
        here.enter()
        flow = run(Allowlist().requestheaders, here.flow("https://hooked.test/ok"))
        MitmHooks().requestheaders(flow)
        assert flow.comment == ("mitm_hooks[0] matched; headers stripped: x-strip; injected on the wire: authorization")
        verdict = here.session.candidates[flow.id]
        assert verdict.hook
        assert describe_match(verdict.hook) == flow.comment


def test_a_stranger_is_left_alone() -> None:
    with bench() as here:
        flow = here.flow(fields=[("x-strip", "1")])
    MitmHooks().requestheaders(flow)
    assert lines(flow) == [("x-strip", "1")]
