"""The authority decides, audits, records, reports; whatever goes wrong inside it is a deny."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest

from codex_network_proxy.addons.authority import Authority, RequestIds, Surroundings
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import (
    Allowed,
    Blocked,
    BlockReason,
    HttpUse,
    IPAddress,
    NetworkDecision,
    NetworkPolicyRequest,
    NetworkProtocol,
    Outage,
    Tunnel,
    Unavailable,
    Use,
    Verdict,
)
from codex_network_proxy.policy.engine import NetworkPolicy
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.hosts import parse_endpoint
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.patterns import parse_pattern
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.upstream import read_routes

PUBLIC = ip_address("93.184.216.34")


@dataclass
class FakeWorld:
    """Resolver, audit sink, clock and decider in one."""

    addresses: Sequence[IPAddress] | Exception = (PUBLIC,)
    events: list[PolicyDecisionEvent] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        self.looked_up.append(name)
        if isinstance(self.addresses, Exception):
            raise self.addresses
        return self.addresses

    def emit(self, event: PolicyDecisionEvent) -> None:
        self.events.append(event)

    def now(self) -> float:
        return 1_700_000_000.0

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        return NetworkDecision.allow() if request.host == "decided.test" else NetworkDecision.deny("no")

    def told(self) -> list[tuple[object, ...]]:
        return [
            (
                event.fields()["network.policy.scope"],
                event.fields()["network.policy.decision"],
                event.fields()["network.policy.reason"],
            )
            for event in self.events
        ]


def compile_policy(allowed: Sequence[str] = ("allowed.test",), **settings: object) -> NetworkPolicy:
    base = NetworkSettings(enabled=True, allowed=tuple(parse_pattern(text) for text in allowed))
    return NetworkPolicy.compile(replace(base, **settings))  # type: ignore[arg-type]  # rows name real fields


def make(world: FakeWorld, policy: NetworkPolicy | None = None) -> Authority:
    return Authority(policy or compile_policy(), Surroundings(world, world, world, decider=world))


def question(host: str = "allowed.test", use: Use | None = None) -> NetworkPolicyRequest:
    tunnel = use is None
    return NetworkPolicyRequest(
        NetworkProtocol.HTTPS_CONNECT if tunnel else NetworkProtocol.HTTP,
        parse_endpoint(host, 443),
        use or Tunnel(),
        "CONNECT" if tunnel else "POST",
        "127.0.0.1:5000",
    )


def decide(authority: Authority, request: NetworkPolicyRequest) -> object:
    return asyncio.run(authority.decide(request))


def test_an_allow_is_one_event_that_names_the_pinned_address() -> None:
    world = FakeWorld()
    verdict = decide(make(world), question())
    assert isinstance(verdict, Allowed)
    assert world.told() == [("domain", "allow", "allow")]
    assert world.events[0].fields()["network.peer.address"] == "93.184.216.34"
    assert world.events[0].fields()["request.id"] == verdict.request_id


def test_a_block_is_audited_buffered_and_reported_under_one_id() -> None:
    world = FakeWorld()
    authority = make(world)
    seen: list[tuple[Blocked, BlockedRequest]] = []
    authority.on_block(lambda verdict, entry: seen.append((verdict, entry)))
    verdict = decide(authority, question("other.test"))
    assert isinstance(verdict, Blocked)
    assert verdict.reason == "no"
    assert [found for found, _ in seen] == [verdict]
    assert [entry.host for entry in authority.blocked.snapshot()] == ["other.test"]
    assert world.events[0].fields()["request.id"] == verdict.request_id


def test_a_method_block_is_two_events_and_one_entry() -> None:
    world = FakeWorld()
    authority = make(world, compile_policy(mode=NetworkMode.LIMITED))
    decide(authority, question(use=HttpUse("POST")))
    assert world.told() == [("domain", "allow", "allow"), ("non_domain", "deny", "method_not_allowed")]
    assert len(authority.blocked.snapshot()) == 1


@pytest.mark.parametrize(
    "failure",
    [pytest.param(RuntimeError("secret text"), id="an error"), pytest.param(ValueError(), id="another error")],
)
def test_an_error_inside_is_a_deny_and_its_text_is_not_logged(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    world = FakeWorld(failure)
    with caplog.at_level(logging.DEBUG):
        verdict = decide(make(world), question())
    assert isinstance(verdict, Blocked)
    assert verdict.reason == BlockReason.POLICY_DENIED
    assert world.told() == [("non_domain", "deny", "policy_denied")]
    assert "secret text" not in caplog.text


def test_an_unresolved_name_is_audited_as_allowed_and_not_buffered() -> None:
    world = FakeWorld(ResolutionFailed("could not resolve allowed.test"))
    authority = make(world)
    decide(authority, question())
    assert world.told() == [("domain", "allow", "allow")]
    assert authority.blocked.snapshot() == ()


def test_a_broken_configuration_closes_everything_and_is_not_audited() -> None:
    world = FakeWorld()
    authority = make(world)
    authority.replace(None)
    assert isinstance(decide(authority, question()), Unavailable)
    assert authority.mode is NetworkMode.LIMITED
    assert world.events == []


@pytest.mark.parametrize(
    ("working", "looked_up"),
    [
        pytest.param([False], [], id="before anything is asked"),
        pytest.param([True, False], ["allowed.test"], id="after the look-up"),
    ],
)
def test_what_cannot_be_written_down_does_not_happen(
    working: list[bool], looked_up: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    world = FakeWorld()
    recording = iter(working)
    surroundings = Surroundings(world, world, world, recording=lambda: next(recording))
    authority = Authority(compile_policy(), surroundings)
    with caplog.at_level(logging.INFO):
        verdict = decide(authority, question())
    assert isinstance(verdict, Unavailable)
    assert (verdict.outage, world.events, world.looked_up) == (Outage.NO_AUDIT_LOG, [], looked_up)
    assert "CONNECT failed; the audit log cannot be written (" in caplog.text


def test_while_everything_is_written_down_decisions_are_made() -> None:
    world = FakeWorld()
    authority = Authority(compile_policy(), Surroundings(world, world, world, recording=lambda: True))
    assert isinstance(decide(authority, question()), Allowed)


def test_the_blocked_buffer_survives_a_new_policy_and_observers_hear_of_it() -> None:
    authority = make(FakeWorld())
    heard: list[NetworkPolicy | None] = []
    authority.on_policy(lambda: heard.append(authority.policy))
    decide(authority, question("other.test"))
    policy = compile_policy(("other.test",))
    authority.replace(policy)
    assert heard == [policy]
    assert len(authority.blocked.snapshot()) == 1
    assert isinstance(decide(authority, question("other.test")), Allowed)


def test_an_observer_of_the_policy_that_raises_keeps_no_other_from_cutting(caplog: pytest.LogCaptureFixture) -> None:
    authority = make(FakeWorld())
    heard: list[str] = []

    def fail() -> None:
        raise RuntimeError("secret text")

    authority.on_policy(fail)
    authority.on_policy(lambda: heard.append("cut"))
    authority.replace(compile_policy(()))
    assert heard == ["cut"]
    assert "an observer of the policy failed (RuntimeError)" in caplog.text
    assert "secret text" not in caplog.text


def test_a_preview_leaves_no_trace_and_asks_no_decider() -> None:
    world = FakeWorld()
    authority = make(world)
    verdicts = [asyncio.run(authority.preview(question(host))) for host in ("allowed.test", "decided.test")]
    assert [type(verdict) for verdict in verdicts] == [Allowed, Blocked]
    authority.replace(None)
    assert isinstance(asyncio.run(authority.preview(question())), Unavailable)
    assert (world.events, authority.blocked.total) == ([], 0)


def test_an_observer_that_raises_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    authority = make(FakeWorld())

    def fail(verdict: Blocked, entry: BlockedRequest) -> None:
        raise RuntimeError("secret text")

    authority.on_block(fail)
    assert isinstance(decide(authority, question("other.test")), Blocked)
    assert "an observer of blocks failed (RuntimeError)" in caplog.text
    assert "secret text" not in caplog.text


@pytest.mark.parametrize(
    ("policy", "target", "stands"),
    [
        pytest.param(compile_policy(), "allowed.test", True, id="the same list keeps it open"),
        pytest.param(
            compile_policy(("**.test",)), "allowed.test", True, id="another rule that covers it keeps it open"
        ),
        pytest.param(compile_policy(()), "allowed.test", False, id="a host that left the list is cut"),
        pytest.param(
            compile_policy(denied=(parse_pattern("allowed.test"),)), "allowed.test", False, id="a denied host is cut"
        ),
        pytest.param(
            compile_policy(denied=(parse_pattern("93.184.216.0/24"),)),
            "allowed.test",
            False,
            id="a host whose address is denied now is cut",
        ),
        pytest.param(compile_policy(enabled=False), "allowed.test", False, id="a disabled proxy cuts everything"),
        pytest.param(
            compile_policy(mode=NetworkMode.LIMITED, mitm=True),
            "allowed.test",
            False,
            id="a tunnel that must be inspected now is cut",
        ),
        pytest.param(
            compile_policy(mode=NetworkMode.LIMITED), "allowed.test", False, id="a tunnel that is refused now is cut"
        ),
        pytest.param(None, "allowed.test", False, id="a broken configuration cuts everything"),
        pytest.param(
            compile_policy(()), "decided.test", True, id="what a decider allowed stands while no list objects"
        ),
        pytest.param(
            compile_policy(denied=(parse_pattern("decided.test"),)),
            "decided.test",
            False,
            id="a deny beats the decider",
        ),
        pytest.param(
            compile_policy((), hard_allowlist=True), "decided.test", False, id="a hard allowlist beats it as well"
        ),
    ],
)
def test_after_a_reload_an_open_tunnel(policy: NetworkPolicy | None, target: str, stands: bool) -> None:
    authority = make(FakeWorld())
    verdict = decide(authority, question(target))
    assert isinstance(verdict, Allowed)
    authority.replace(policy)
    assert authority.still_allows(verdict) is stands


class PromptDecider:
    """Asks a person, who answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[NetworkPolicyRequest] = []
        self.answer: asyncio.Future[NetworkDecision] = asyncio.get_running_loop().create_future()
        self._questions: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.asked.append(request)
        self._questions.put_nowait(None)
        return await self.answer

    async def until_asked(self, count: int) -> None:
        for _ in range(count):
            await self._questions.get()


async def prompted(world: FakeWorld, *hosts: str) -> tuple[PromptDecider, Authority, list[asyncio.Task[Verdict]]]:
    """An authority whose decider has been asked about each of the hosts."""
    decider = PromptDecider()
    authority = Authority(compile_policy(()), Surroundings(world, world, world, decider=decider))
    tasks = [asyncio.ensure_future(authority.decide(question(host))) for host in hosts]
    await decider.until_asked(len(set(hosts)))
    return decider, authority, tasks


def test_a_policy_that_changes_during_a_question_asks_nobody_twice() -> None:
    async def run() -> None:
        decider, authority, tasks = await prompted(FakeWorld(), "new.test", "other.test")
        authority.replace(compile_policy((), denied=(parse_pattern("other.test"),)))
        decider.answer.set_result(NetworkDecision.allow())
        new, other = [await task for task in tasks]
        assert isinstance(new, Allowed)
        assert isinstance(other, Blocked)
        assert other.reason == "denied"
        assert [request.host for request in decider.asked] == ["new.test", "other.test"]

    asyncio.run(run())


def test_a_client_that_leaves_its_question_is_denied_and_the_others_wait_on() -> None:
    async def run() -> None:
        world = FakeWorld()
        decider, _, (leaver, stayer) = await prompted(world, "new.test", "new.test")
        leaver.cancel()
        await asyncio.wait([leaver])
        assert leaver.cancelled()
        assert world.told() == [("domain", "deny", "policy_denied")]
        assert world.events[0].fields()["network.policy.source"] == "decider"
        decider.answer.set_result(NetworkDecision.allow())
        assert isinstance(await stayer, Allowed)

    asyncio.run(run())


def test_a_client_that_is_gone_is_denied_and_the_others_wait_on() -> None:
    async def run() -> None:
        world = FakeWorld()
        decider = PromptDecider()
        authority = Authority(compile_policy(()), Surroundings(world, world, world, decider=decider))
        clients = ("127.0.0.1:1", "127.0.0.1:2")
        requests = [replace(question("new.test"), client_address=client) for client in clients]
        gone, stayer = (asyncio.ensure_future(authority.decide(request)) for request in requests)
        await decider.until_asked(1)
        authority.client_left("127.0.0.1:1")
        authority.client_left("127.0.0.1:9")
        verdict = await gone
        assert isinstance(verdict, Blocked)
        assert (verdict.reason, verdict.ruling.source) == ("policy_denied", "decider")
        decider.answer.set_result(NetworkDecision.allow())
        assert isinstance(await stayer, Allowed)
        assert world.told() == [("domain", "deny", "policy_denied"), ("domain", "allow", "not_allowed")]

    asyncio.run(run())


def test_a_client_without_a_question_may_go() -> None:
    world = FakeWorld()
    Authority(compile_policy(), Surroundings(world, world, world)).client_left("127.0.0.1:1")


def test_a_client_that_leaves_a_lookup_was_not_denied_by_anybody() -> None:
    class NoAnswer(FakeWorld):
        async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
            raise asyncio.CancelledError

    world = NoAnswer()
    with pytest.raises(asyncio.CancelledError):
        decide(make(world), question())
    assert world.events == []


def test_closing_denies_what_a_decider_still_thinks_about() -> None:
    async def run() -> None:
        _, authority, (task,) = await prompted(FakeWorld(), "new.test")
        authority.close()
        verdict = await task
        assert isinstance(verdict, Blocked)
        assert verdict.reason == "policy_denied"

    asyncio.run(run())


def test_closing_without_a_decider_is_nothing() -> None:
    world = FakeWorld()
    Authority(compile_policy(), Surroundings(world, world, world)).close()


@pytest.mark.parametrize(
    ("tunnel", "inner", "allowed"),
    [
        pytest.param("decided.test", "decided.test", True, id="holds for what is inside"),
        pytest.param("decided.test", "other.test", False, id="holds for no other host"),
        pytest.param("allowed.test", "other.test", False, id="is not what a list says"),
    ],
)
def test_what_a_decider_said_of_an_intercepted_tunnel(tunnel: str, inner: str, allowed: bool) -> None:
    authority = make(FakeWorld())
    outer = decide(authority, question(tunnel))
    assert isinstance(outer, Allowed)
    asked = replace(question(inner), use=HttpUse("GET", secure=True), method="GET")
    verdict = asyncio.run(authority.decide(asked, outer))
    assert isinstance(verdict, Allowed) is allowed


def test_a_request_inside_a_decided_tunnel_asks_nobody() -> None:
    async def run() -> None:
        decider, authority, (task,) = await prompted(FakeWorld(), "new.test")
        decider.answer.set_result(NetworkDecision.allow())
        outer = await task
        assert isinstance(outer, Allowed)
        inner = replace(question("new.test"), use=HttpUse("GET", secure=True), method="GET")
        assert isinstance(await authority.decide(inner, outer), Allowed)
        assert len(decider.asked) == 1
        authority.replace(compile_policy((), denied=(parse_pattern("new.test"),)))
        assert isinstance(await authority.decide(inner, outer), Blocked), "the lists have the last word"

    asyncio.run(run())


def test_request_ids_are_unique_and_differ_between_processes() -> None:
    first, second = RequestIds(), RequestIds()
    ids = [first() for _ in range(100)] + [second() for _ in range(100)]
    assert len(set(ids)) == 200


# -- behind an upstream proxy ----------------------------------------------------------------------------------------

PROXY = "http://proxy.test:8080"


def behind(proxy: str, policy: NetworkPolicy, world: FakeWorld | None = None) -> Authority:
    world = world or FakeWorld()
    routes, _ = read_routes({"ALL_PROXY": proxy})
    return Authority(policy, Surroundings(world, world, world, routes=routes))


def test_an_audit_event_names_no_address_that_was_not_dialled() -> None:
    world = FakeWorld()
    verdict = decide(behind(PROXY, compile_policy(), world), question())
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == (PUBLIC,)
    assert "network.peer.address" not in world.events[0].fields()


KEPT = [
    pytest.param({}, {}, True, id="the same policy"),
    pytest.param({}, {"allow_upstream_proxy": False}, False, id="the proxy may not be used any more"),
    pytest.param({}, {"allow_local_binding": True}, True, id="addresses do not matter any more"),
    pytest.param({"allow_local_binding": True}, {}, False, id="addresses matter now, and none was looked up"),
    pytest.param({"allow_upstream_proxy": False}, {}, True, id="what goes directly stands when a proxy may be used"),
    pytest.param({}, {"denied": (parse_pattern("93.184.216.34"),)}, False, id="the address is denied now"),
]


@pytest.mark.parametrize(("before", "after", "stands"), KEPT)
def test_what_stands_behind_an_upstream_proxy(
    before: dict[str, object], after: dict[str, object], stands: bool
) -> None:
    authority = behind(PROXY, compile_policy(("allowed.test",), **before))
    verdict = decide(authority, question())
    assert isinstance(verdict, Allowed)
    authority.replace(compile_policy(("allowed.test",), **after))
    assert authority.still_allows(verdict) is stands


def test_a_name_that_only_the_proxy_knows_stands() -> None:
    authority = behind(PROXY, compile_policy(), FakeWorld(ResolutionFailed("could not resolve")))
    verdict = decide(authority, question())
    assert isinstance(verdict, Allowed)
    assert verdict.addresses == ()
    authority.replace(compile_policy())
    assert authority.still_allows(verdict)


def test_a_proxy_that_turns_out_to_be_ourselves_is_left() -> None:
    authority = behind("http://127.0.0.1:3128", compile_policy())
    through = decide(authority, question())
    authority.own_listeners.add(3128)
    direct = decide(authority, question())
    assert isinstance(through, Allowed)
    assert isinstance(direct, Allowed)
    assert through.upstream is not None
    assert direct.upstream is None
    assert not authority.still_allows(through)


def test_datagrams_to_a_relay_of_ours_are_blocked_and_nothing_is_said_of_an_allow() -> None:
    world = FakeWorld([ip_address("127.0.0.1")])
    authority = make(world, compile_policy(allow_local_binding=True))
    asked = replace(question(), protocol=NetworkProtocol.SOCKS5_UDP)
    before = decide(authority, asked)
    authority.own_relays.add(asked.port)
    after = decide(authority, asked)
    assert isinstance(before, Allowed)
    assert isinstance(after, Blocked)
    assert after.reason == BlockReason.NOT_ALLOWED_LOCAL
    assert not authority.still_allows(before)
    assert world.told() == [("domain", "allow", "allow"), ("domain", "deny", "not_allowed_local")]
    assert isinstance(decide(authority, question()), Allowed), "who connects there meets somebody else"


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        pytest.param(compile_policy(), True, id="by default"),
        pytest.param(compile_policy(enable_socks5_udp=False), False, id="switched off"),
        pytest.param(None, None, id="a broken configuration"),
    ],
)
def test_whether_socks5_clients_may_have_udp(policy: NetworkPolicy | None, served: bool | None) -> None:
    authority = make(FakeWorld())
    authority.replace(policy)
    assert authority.serves_udp is served
