"""A decider in front of a whole engine: whom it is asked about, and what its word is worth at each door (spec A10)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from codex_network_proxy.policy.decision import NetworkDecision, NetworkPolicyRequest
from tests.kit.socks_client import GREETING, socks_request

from .engine_kit import HOOKED, Lab, Peer, configuration, play
from .http1_requests import get

NOTHING = configuration(lines=["allowed_domains = []"])


class Person:
    """Is asked, and answers when the test says so."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[NetworkPolicyRequest] = asyncio.Queue()
        self.answers: asyncio.Queue[NetworkDecision] = asyncio.Queue()

    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        self.questions.put_nowait(request)
        return await self.answers.get()

    def will_say(self, *decisions: NetworkDecision) -> None:
        for decision in decisions:
            self.answers.put_nowait(decision)

    def asked(self) -> list[tuple[str, str]]:
        """Protocol and host of all questions so far."""
        return [(one.protocol.value, one.host) for one in iter(self._next, None)]

    def _next(self) -> NetworkPolicyRequest | None:
        return None if self.questions.empty() else self.questions.get_nowait()


async def connect(lab: Lab, port: int, host: str = "allowed.test") -> tuple[Peer, int, str | None]:
    peer = await lab.client()
    target = f"{host}:{port}".encode()
    answer = await peer.ask(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target), "CONNECT")
    return peer, answer.status, answer.get("x-proxy-error")


ALLOW = NetworkDecision.allow()


@pytest.mark.parametrize(
    ("decision", "status", "error"),
    [
        pytest.param(ALLOW, 200, None, id="an allow"),
        pytest.param(NetworkDecision.deny(), 403, "blocked-by-policy", id="a deny"),
        pytest.param(NetworkDecision.deny("denied"), 403, "blocked-by-denylist", id="a deny in our own words"),
        pytest.param(NetworkDecision.ask("ask Bob"), 403, "blocked-by-policy", id="an ask"),
    ],
)
def test_what_a_decider_says_is_done(decision: NetworkDecision, status: int, error: str | None, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        person.will_say(decision, decision)
        assert (await connect(lab, origin.port))[1:] == (status, error)
        plain = await (await lab.client()).ask(get(origin.port))
        assert (plain.status, plain.get("x-proxy-error")) == (status, error)
        assert person.asked() == [("https_connect", "allowed.test"), ("http", "allowed.test")]

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person)


@pytest.mark.parametrize(
    ("decision", "code"),
    [
        pytest.param(ALLOW, 0x00, id="an allow"),
        pytest.param(NetworkDecision.deny("no"), 0x02, id="a deny"),
        pytest.param(NetworkDecision.ask("why"), 0x02, id="an ask"),
    ],
)
def test_what_a_decider_says_is_done_over_socks5(decision: NetworkDecision, code: int, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        person.will_say(decision)
        assert (await lab.ask_socks(origin.port, "allowed.test"))[1] == code
        assert person.asked() == [("socks5_tcp", "allowed.test")]

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person)


def test_one_answer_for_a_tunnel_holds_for_everything_in_it(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(tls=[HOOKED])
        person.will_say(ALLOW)
        tunnel = await lab.tunnel(origin.port)
        for _ in range(2):
            request = f"GET /ok HTTP/1.1\r\nhost: {HOOKED}:{origin.port}\r\n\r\n"
            assert (await tunnel.ask(request.encode())).status == 200
        assert person.asked() == [("https_connect", HOOKED)]

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person)


@pytest.mark.parametrize("door", ["CONNECT", "plain HTTP", "SOCKS5"])
@pytest.mark.parametrize("fast_path", [True, False], ids=["fast path", "engine"])
def test_a_client_that_does_not_wait_is_denied(door: str, fast_path: bool, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        client = await lab.client("socks" if door == "SOCKS5" else "http")
        target = b"allowed.test:%d" % origin.port
        await client.send(
            {
                "CONNECT": b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target),
                "plain HTTP": get(origin.port),
                "SOCKS5": GREETING + socks_request(b"allowed.test", origin.port),
            }[door]
        )
        await person.questions.get()
        denied = asyncio.Event()
        lab.policy.on_block(lambda verdict, entry: denied.set())
        client.close()
        await denied.wait()
        person.will_say(ALLOW)
        (entry,) = lab.policy.blocked.snapshot()
        assert (entry.reason, entry.source) == ("policy_denied", "decider")
        # The next question is a new one: the late answer belongs to it alone.
        assert (await (await lab.client()).ask(get(origin.port))).status == 200
        assert len(origin.requests) == 1

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person, fast_path=fast_path)


def test_a_denial_by_code_cuts_what_a_decider_had_allowed(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        person.will_say(ALLOW)
        tunnel, status, _ = await connect(lab, origin.port)
        assert status == 200
        lab.runtime.live.add_denied_domain("allowed.test")
        assert await tunnel.closed()
        assert (await connect(lab, origin.port))[1:] == (403, "blocked-by-denylist")

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person)


def test_a_decider_may_add_what_it_allows(tmp_path: Path) -> None:
    """Allow for this run: the next request needs no answer."""

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin()
        labs.append(lab)
        assert (await connect(lab, origin.port))[1] == 200
        assert (await connect(lab, origin.port))[1] == 200
        assert asked == ["allowed.test"]

    labs: list[Lab] = []
    asked: list[str] = []

    async def remember(request: NetworkPolicyRequest) -> NetworkDecision:
        asked.append(request.host)
        labs[0].runtime.live.add_allowed_domain(request.host)
        return ALLOW

    play(scenario, tmp_path, NOTHING, decider=remember)


def test_the_end_of_the_proxy_answers_every_question(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client = await lab.client()
        await client.send(b"CONNECT allowed.test:443 HTTP/1.1\r\nhost: allowed.test:443\r\n\r\n")
        await person.questions.get()
        lab.runtime.close()
        assert await client.closed()

    person = Person()
    play(scenario, tmp_path, NOTHING, decider=person)
