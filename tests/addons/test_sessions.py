"""The side table: an approval is for one request as it was judged, and nothing outlives its flow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address

import pytest
from mitmproxy import connection, http

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.approval import Approval
from codex_network_proxy.addons.sessions import Session, Snapshot, close_session, open_session, session_for, session_of
from codex_network_proxy.policy.decision import Allowed, HttpUse, Tunnel

from .flow_kit import Bench, bench, run


def approved(here: Bench, url: str = "http://allowed.test:81/p", *, body: bool = False) -> http.HTTPFlow:
    flow = run(Allowlist().requestheaders, here.flow(url, [("accept", "*/*")], "POST" if body else "GET", body=body))
    Approval().requestheaders(flow)
    assert here.session.approved(flow)
    return flow


def set_host(flow: http.HTTPFlow) -> None:
    flow.request.data.host = "evil.test"


def set_pretty_host(flow: http.HTTPFlow) -> None:
    flow.request.host = "evil.test"


def set_port(flow: http.HTTPFlow) -> None:
    flow.request.port = 82


def set_method(flow: http.HTTPFlow) -> None:
    flow.request.method = "DELETE"


def set_path(flow: http.HTTPFlow) -> None:
    flow.request.path = "/other"


def set_scheme(flow: http.HTTPFlow) -> None:
    flow.request.scheme = "https"


def set_authority(flow: http.HTTPFlow) -> None:
    flow.request.authority = "evil.test"


def set_version(flow: http.HTTPFlow) -> None:
    flow.request.http_version = "HTTP/2.0"


def add_field(flow: http.HTTPFlow) -> None:
    flow.request.headers["x-http-method-override"] = "DELETE"


def add_framing(flow: http.HTTPFlow) -> None:
    flow.request.headers["transfer-encoding"] = "chunked"


def remove_field(flow: http.HTTPFlow) -> None:
    del flow.request.headers["accept"]


def add_body(flow: http.HTTPFlow) -> None:
    flow.request.data.content = b"smuggled"


def add_trailers(flow: http.HTTPFlow) -> None:
    flow.request.trailers = http.Headers(x="1")


def replace_request(flow: http.HTTPFlow) -> None:
    flow.request = http.Request.make("GET", "http://evil.test/")


@pytest.mark.parametrize(
    "change",
    [
        set_host, set_pretty_host, set_port, set_method, set_path, set_scheme, set_authority, set_version, add_field,
        add_framing, remove_field, add_body, add_trailers, replace_request,
    ],
)  # fmt: skip
def test_a_changed_request_is_not_the_approved_one(change: Callable[[http.HTTPFlow], None]) -> None:
    with bench() as here:
        flow = approved(here)
        change(flow)
        assert here.session.approved(flow) is None


def test_the_body_of_a_request_that_announced_one_is_its_own_business() -> None:
    with bench() as here:
        flow = approved(here, body=True)
        flow.request.data.content = b"whatever"
        assert here.session.approved(flow)


def test_another_flow_is_not_approved_by_a_likeness() -> None:
    with bench() as here:
        flow = approved(here)
        other = here.flow("http://allowed.test:81/p")
        other.request = flow.request
        assert here.session.approved(other) is None


def test_a_flow_that_has_ended_leaves_nothing() -> None:
    with bench() as here:
        flow = approved(here, body=True)
        here.session.candidates[flow.id] = here.session.approvals[flow.id].verdict
        here.session.forget(flow)
        session = here.session
        assert not [*session.approvals, *session.candidates, *session.bodies, *session.grants]
        here.session.forget(flow)


def test_a_grant_lasts_as_long_as_some_request_needs_it() -> None:
    with bench() as here:
        first, second, other = approved(here), approved(here), approved(here, "http://allowed.test:82/")
        here.session.forget(first)
        assert ("allowed.test", 81) in here.session.grants
        here.session.forget(second)
        assert list(here.session.grants) == [("allowed.test", 82)]
        here.session.forget(other)
        assert not here.session.grants


def test_the_grant_of_a_relayed_tunnel_stays() -> None:
    with bench() as here:
        tunnel = here.enter("allowed.test:81")
        here.session.grant("allowed.test", 81, tunnel)
        here.client.timestamp_tls_setup = None
        here.session.forget(approved(here))
        assert list(here.session.grants) == [("allowed.test", 81)]


def test_everything_that_goes_on_is_a_verdict_to_check_again() -> None:
    with bench() as here:
        assert here.session.verdicts() == []
        tunnel = here.enter()
        assert here.session.verdicts() == [tunnel]


def standing(here: Bench, flow: http.HTTPFlow) -> Allowed:
    verdict = here.session.approvals[flow.id].verdict
    here.session.dialled_under("a server's id", verdict)
    here.session.forget(flow)
    return here.session.dialled["a server's id"]


def test_an_idle_connection_stands_for_its_target_and_not_for_what_was_sent() -> None:
    with bench() as here:
        found = standing(here, approved(here, body=True))
        assert found.request.use == HttpUse("GET")
        assert str(found.request.target) == "allowed.test:81"
        assert here.session.verdicts() == [found]


def test_an_idle_connection_of_a_tunnel_stands_for_the_tunnel_with_its_own_address() -> None:
    with bench() as here:
        here.enter("hooked.test:443")
        here.world.addresses = (ip_address("127.0.0.2"),)
        found = standing(here, approved(here, "https://hooked.test/ok"))
        assert (found.request.use, found.inspect) == (Tunnel(), True)
        assert [str(address) for address in found.addresses] == ["127.0.0.2"]


def test_a_session_lasts_from_opening_to_closing() -> None:
    session = Session(None, "127.0.0.1:1")
    open_session("some id", session)
    assert session_of("some id") is session
    close_session("some id")
    close_session("some id")
    assert session_of("some id") is None


def test_a_connection_of_nobody_has_nothing() -> None:
    session = Session(None, "127.0.0.1:1")
    assert (session.authority, session.secrets, session.interception) == (None, None, None)


def test_policy_secrets_and_certificates_are_those_of_the_tenant() -> None:
    with bench() as here:
        assert here.session.authority is here.tenant.authority
        assert here.session.secrets is here.tenant.secrets
        assert here.session.interception is None


def test_a_replay_has_no_session() -> None:
    with bench() as here:
        flow = here.flow()
        assert session_for(flow) is here.session
        flow.is_replay = "request"
        assert session_for(flow) is None


def test_a_held_connection_is_read_when_it_is_released() -> None:
    server = connection.Server(address=("a", 1))

    async def scenario() -> list[str]:
        session, told = Session(None, "127.0.0.1:1"), []
        await session.may_read(server)
        session.hold(server, True)
        session.hold(server, True)

        async def reader() -> None:
            await session.may_read(server)
            told.append("read")

        task = asyncio.create_task(reader())
        await asyncio.wait((task,), timeout=0)
        told.append("held")
        session.hold(server, False)
        session.hold(server, False)
        await task
        return told

    assert asyncio.run(scenario()) == ["held", "read"]


def test_a_snapshot_shows_no_fields() -> None:
    with bench() as here:
        flow = here.flow(fields=[("authorization", "mine")])
    assert "mine" not in repr(Snapshot.of(flow.request))
