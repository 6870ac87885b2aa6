"""The allowlist asks the authority for every flow, and passes on its word alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.policy.decision import Allowed, IPAddress

from .engine_kit import configuration
from .flow_kit import ADDRESS, Bench, Pairs, World, answered, bench, compiled, lines, run

LIMITED = configuration("limited")
OPEN = configuration(hooks="")


def ask(here: Bench, url: str = "http://allowed.test/", fields: Pairs = (), method: str = "GET") -> int:
    return answered(run(Allowlist().requestheaders, here.flow(url, fields, method)))[0]


@pytest.mark.parametrize(
    ("url", "method", "status", "told"),
    [
        pytest.param("http://allowed.test/", "GET", 0, [("allow", "allow")], id="an allowed host"),
        pytest.param("http://denied.test/", "GET", 403, [("deny", "denied")], id="a denied host"),
        pytest.param("http://unknown.test/", "GET", 403, [("deny", "not_allowed")], id="a host on no list"),
        pytest.param("http://hooked.test/", "GET", 403, [("allow", "allow"), ("deny", "mitm_required")],
                     id="a hooked host in clear"),
        pytest.param("https://hooked.test/ok", "GET", 0, [("allow", "allow"), ("allow", "allow")],
                     id="a hooked host in absolute form"),
        pytest.param("https://hooked.test/no", "GET", 403, [("allow", "allow"), ("deny", "mitm_hook_denied")],
                     id="what no hook accepts"),
    ],
)  # fmt: skip
def test_plain_requests(url: str, method: str, status: int, told: list[tuple[str, str]]) -> None:
    with bench() as here:
        assert ask(here, url, method=method) == status
        assert here.world.told() == told
        assert len(here.session.candidates) == (0 if status else 1)
        assert not here.session.approvals, "only the whole chain approves"


def test_a_refused_request_gets_the_answer_of_its_door() -> None:
    with bench() as here:
        plain = run(Allowlist().requestheaders, here.flow("http://denied.test/"))
        assert plain.response
        assert plain.response.headers["content-type"] == "application/json"
        assert plain.response.reason == "Blocked by network policy (blocked-by-denylist)"
        here.enter()
        inner = run(Allowlist().requestheaders, here.flow("https://hooked.test/no"))
        assert inner.response
        assert inner.response.headers["content-type"] == "text/plain"
        assert inner.response.headers["x-proxy-error"] == "blocked-by-mitm-hook"
        assert inner.marked == ":no_entry:"
        assert inner.response.headers["x-proxy-request-id"] in inner.comment


def test_a_name_without_an_address_is_no_block() -> None:
    with bench(world=World(addresses=None)) as here:
        flow = run(Allowlist().requestheaders, here.flow())
        assert answered(flow) == (502, "upstream failure: could not resolve allowed.test")
        assert flow.marked == ""


def test_a_broken_configuration_is_an_error() -> None:
    with bench() as here:
        here.authority.replace(None)
        assert answered(run(Allowlist().requestheaders, here.flow())) == (500, "error")


def test_a_request_that_cannot_be_asked_reaches_no_policy() -> None:
    with bench() as here:
        flow = run(Allowlist().requestheaders, here.flow(fields=[("host", "evil.test")]))
        assert answered(flow) == (400, "Host header does not match request target")
        assert not here.world.events
        assert flow.comment == "refused: Host header does not match request target"


@pytest.mark.parametrize(
    ("url", "fields", "version", "host"),
    [
        pytest.param("http://allowed.test/", [("Host", "ALLOWED.test.")], "HTTP/1.1", "allowed.test", id="plain"),
        pytest.param("http://allowed.test/", [], "HTTP/1.0", "allowed.test", id="without a Host"),
        pytest.param("http://allowed.test:81/", [], "HTTP/1.1", "allowed.test:81", id="another port"),
        pytest.param("https://allowed.test/", [], "HTTP/1.1", "allowed.test", id="https"),
    ],
)
def test_the_canonical_host_is_sent(url: str, fields: Pairs, version: str, host: str) -> None:
    with bench(OPEN) as here:
        flow = run(Allowlist().requestheaders, here.flow(url, fields, version=version, authority="Allowed.TEST"))
        assert flow.request.headers.get_all("host") == [host]
        assert flow.request.data.authority == b"", "in origin form"


def test_http2_names_its_host_in_the_authority_alone() -> None:
    with bench() as here:
        here.enter()
        flow = here.flow(
            "https://hooked.test/ok", [("host", "Hooked.test")], version="HTTP/2.0", authority="HOOKED.test"
        )
        run(Allowlist().requestheaders, flow)
        assert (flow.request.data.authority, lines(flow)) == (b"hooked.test", [])


@pytest.mark.parametrize(
    ("method", "fields", "body", "status"),
    [
        pytest.param("GET", [], False, 0, id="a read"),
        pytest.param("POST", [], False, 403, id="a write"),
        pytest.param("GET", [("content-length", "3")], True, 403, id="a read with a body"),
        pytest.param("GET", [], True, 403, id="a read with a body that nobody announced"),
        pytest.param("get", [], False, 403, id="a read in small letters"),
    ],
)
def test_limited_mode_inside_a_tunnel(method: str, fields: Pairs, body: bool, status: int) -> None:
    with bench(LIMITED) as here:
        here.enter()
        flow = run(Allowlist().requestheaders, here.flow("https://hooked.test/ok", fields, method, body=body))
        assert answered(flow)[0] == status


@pytest.mark.parametrize("answered_before", ["response", "error"])
def test_an_answered_flow_is_left_alone(answered_before: str) -> None:
    with bench() as here:
        flow = here.flow("http://denied.test/")
        setattr(flow, answered_before, object())
        run(Allowlist().requestheaders, flow)
        assert not here.world.events


def test_a_replay_and_a_stranger_get_no_candidate() -> None:
    with bench() as here:
        replay = here.flow()
        replay.is_replay = "request"
        run(Allowlist().requestheaders, replay)
        here.session.tenant = None
        run(Allowlist().requestheaders, here.flow())
        run(Allowlist().http_connect, here.flow("https://allowed.test/", method="CONNECT"))
        assert not here.session.candidates
        assert not here.session.tunnel


def connect(here: Bench, target: str = "https://allowed.test/") -> int:
    return answered(run(Allowlist().http_connect, here.flow(target, method="CONNECT")))[0]


def test_a_relayed_tunnel_may_be_dialled() -> None:
    with bench() as here:
        assert connect(here) == 0
        assert {key: grant.addresses for key, grant in here.session.grants.items()} == {
            ("allowed.test", 443): (ADDRESS,)
        }


def test_into_an_inspected_tunnel_nothing_is_dialled_yet() -> None:
    with bench() as here:
        assert connect(here, "https://hooked.test/") == 0
        assert here.session.tunnel
        assert here.session.tunnel.inspect
        assert not here.session.grants


def test_a_refused_tunnel_leaves_nothing_behind() -> None:
    with bench() as here:
        assert connect(here) == 0
        assert connect(here, "https://denied.test/") == 403
        assert here.session.tunnel is None


def test_what_the_door_has_decided_is_not_asked_again() -> None:
    with bench() as here:
        verdict = here.enter("allowed.test:443")
        here.session.tunnel_decided = True
        assert connect(here) == 0
        assert not here.world.events, "the door has audited it"
        assert here.session.tunnel is verdict
        assert connect(here) == 0
        assert here.world.told() == [("allow", "allow")], "a second CONNECT is decided here"


def test_another_target_than_the_doors_is_decided_here() -> None:
    with bench() as here:
        here.enter("allowed.test:443")
        here.session.tunnel_decided = True
        assert connect(here, "https://denied.test/") == 403


def test_what_the_door_decided_under_another_policy_is_decided_again() -> None:
    with bench() as here:
        here.enter("allowed.test:443")
        here.session.tunnel_decided = True
        here.authority.replace(compiled(configuration(lines=['denied_domains = ["allowed.test"]'])))
        assert connect(here) == 403
        assert here.session.tunnel is None


def test_a_tunnel_to_no_host_is_refused() -> None:
    with bench() as here:
        flow = here.flow("https://allowed.test/", method="CONNECT")
        flow.request.data.host = "a b"
        assert answered(run(Allowlist().http_connect, flow)) == (400, "invalid host")


def test_the_user_agent_is_remembered_for_the_line_about_trust() -> None:
    with bench() as here:
        run(Allowlist().http_connect, here.flow("https://allowed.test/", [("User-Agent", "git/2")], "CONNECT"))
        assert here.session.user_agent == "git/2"


@pytest.mark.parametrize("hook", ["requestheaders", "http_connect"])
def test_an_authority_that_raises_is_a_deny(hook: str) -> None:
    async def broken(request: object, tunnel: object = None) -> Allowed:
        raise RuntimeError("secret")

    with bench() as here:
        here.authority.decide = broken  # type: ignore[method-assign]  # fails on purpose
        method, url = (
            ("CONNECT", "https://allowed.test/") if hook == "http_connect" else ("GET", "http://allowed.test/")
        )
        flow = run(getattr(Allowlist(), hook), here.flow(url, method=method))
        assert flow.response
        assert flow.response.headers["x-proxy-error"] == "blocked-by-policy"
        assert here.world.told() == [("deny", "policy_denied")]
        assert not here.session.grants


@pytest.mark.parametrize("denying", [True, False], ids=["another policy", "a broken one"])
def test_a_policy_that_changes_during_the_lookup_is_the_one_that_counts(denying: bool) -> None:
    with bench() as here:
        resolve = here.world.resolve

        async def slow(name: str, port: int) -> Sequence[IPAddress]:
            here.authority.replace(compiled(configuration(lines=['denied_domains = ["*.test"]'])) if denying else None)
            return await resolve(name, port)

        here.world.resolve = slow  # type: ignore[method-assign]  # hangs on purpose
        assert ask(here) == (403 if denying else 500)
        assert not here.session.candidates
        assert here.world.told() == ([("deny", "denied")] if denying else [])
