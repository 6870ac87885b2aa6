"""UDP through the SOCKS5 door: what is decided, reported and cut. `tests/socks/test_udp.py` has what is relayed."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from codex_network_proxy.policy.decision import Allowed, BlockReason, NetworkProtocol
from codex_network_proxy.socks.udp import UdpLimits
from tests.kit.udp_client import Datagram
from tests.kit.udp_origins import UdpOrigin, silence

from .running_door import PATIENCE
from .udp_door import LOCAL, UdpDoor, hosts_asked, relaying

# -- decisions ---------------------------------------------------------------------------------------------------------


def test_each_destination_is_decided_on_once_in_the_clients_name() -> None:
    with relaying() as (door, client, origin):
        for number in range(3):
            assert client.ask(b"allowed.test", origin.port, b"%d" % number) == Datagram(
                LOCAL, origin.port, b"%d" % number
            )
        assert client.ask("127.0.0.1", origin.port, b"x").payload == b"x"
        asked = [(one.protocol, one.host, one.port, one.client_address, one.method) for one in door.authority.asked]
        who = (origin.port, client.control.address, None)
        assert asked == [
            (NetworkProtocol.SOCKS5_UDP, "allowed.test", *who),
            (NetworkProtocol.SOCKS5_UDP, "127.0.0.1", *who),
        ]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"blocked.test", id="a name that is not allowed"),
        pytest.param(b"unresolved.test", id="a name without address"),
        pytest.param(b"unavailable.test", id="a broken configuration"),
        pytest.param(b"raises.test", id="an authority that raises"),
        pytest.param(b"inspected.test", id="what would have to be read"),
    ],
)
def test_a_destination_that_is_refused_costs_one_question_and_ends_nothing(name: bytes) -> None:
    with relaying() as (door, client, origin):
        for _ in range(3):
            client.send(name, origin.port, b"must not arrive")
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert hosts_asked(door) == [name.decode(), "allowed.test"]
        assert origin.payloads == [b"x"]


@pytest.mark.parametrize("name", [b"unresolved.test", b"unavailable.test"])
def test_what_failed_is_soon_asked_for_again(name: bytes) -> None:
    with relaying(UdpLimits(retry_seconds=0.01)) as (door, client, origin):
        for _ in range(10_000):
            client.send(name, origin.port, b"must not arrive")
            client.ask(b"allowed.test", origin.port, b"x")
            if hosts_asked(door).count(name.decode()) > 1:
                break
        assert hosts_asked(door) == [name.decode(), "allowed.test", name.decode()]
        assert set(origin.payloads) == {b"x"}


def test_datagrams_that_come_before_the_decision_are_not_lost() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"first")
        client.send(b"slow.test", origin.port, b"second")
        assert client.ask(b"allowed.test", origin.port, b"meanwhile").payload == b"meanwhile"
        door.settle_decision()
        assert [client.receive().payload for _ in range(2)] == [b"first", b"second"]


def test_a_denial_that_comes_late_drops_what_has_waited() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow-blocked.test", origin.port, b"must not arrive")
        door.settle_decision()
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert origin.payloads == [b"x"]


def test_a_client_that_leaves_takes_its_questions_with_it() -> None:
    with UdpDoor() as door:
        with door.client() as client:
            client.send(b"slow.test", 53, b"x")
            assert door.authority.waiting.wait(PATIENCE)
        door.wait_until_empty()
        answer = door.authority.answer
        assert answer is not None
        door.wait_until(answer.cancelled)


def test_an_error_after_the_decision_ends_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("a secret")

    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        assert door.authority.waiting.wait(PATIENCE)
        monkeypatch.setattr("codex_network_proxy.addons.door_udp.UdpClient._act_on", fail)
        door.settle_decision()
        assert client.control.ended()
        assert door.log == ["a connection was closed after an internal error (ValueError)"]


def test_what_would_have_to_be_read_is_a_block_of_its_own() -> None:
    with relaying() as (door, client, origin):
        client.send(b"inspected.test", origin.port, b"x")
        client.ask(b"allowed.test", origin.port, b"x")
        assert [(one.host, reason) for one, reason in door.authority.denied] == [
            ("inspected.test", BlockReason.MITM_REQUIRED)
        ]


def test_the_authority_knows_where_datagrams_are_relayed() -> None:
    with UdpDoor() as door:
        with door.client() as client:
            assert door.authority.own_relays(LOCAL, client.relay[1])
        door.wait_until_empty()
        assert not door.authority.own_relays(LOCAL, client.relay[1])


@pytest.mark.parametrize(
    ("host", "port"),
    [
        pytest.param(b"", 53, id="no name"),
        pytest.param(b"allowed.test", 0, id="port 0"),
        pytest.param(b"allowed.test\0.evil.test", 53, id="a NUL in the name"),
        pytest.param("ä.test".encode(), 53, id="a name that is not ASCII"),
        pytest.param("127.0.0.1", 0, id="an address with port 0"),
    ],
)
def test_what_cannot_be_a_host_is_dropped_and_asks_nobody(
    host: str | bytes, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with relaying() as (door, client, origin), caplog.at_level(logging.INFO):
        client.send(host, port, b"must not arrive")
        client.send(host, port, b"must not arrive")
        assert client.ask(b"allowed.test", origin.port, b"x").payload == b"x"
        assert hosts_asked(door) == ["allowed.test"]
        assert origin.payloads == [b"x"]
        assert len([text for text in caplog.messages if text.startswith("SOCKS request rejected")]) == 1


# -- what others see ---------------------------------------------------------------------------------------------------


def test_each_destination_is_reported_with_its_size() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"12345")
        client.send(b"blocked.test", origin.port, b"x")
        client.control.sock.close()
        door.wait_until_empty()
        (opened,), (closed,) = door.observer.opened, door.observer.closed
        assert (opened.verdict.request.host, opened.peer) == ("allowed.test", f"127.0.0.1:{origin.port}")
        assert (opened.bytes_up, opened.bytes_down, opened.ended) == (0, 0, None)
        assert closed == replace(opened, bytes_up=5, bytes_down=5, ended=closed.ended)
        assert closed.ended is not None


# -- a new policy ------------------------------------------------------------------------------------------------------


def test_a_new_policy_cuts_what_it_does_not_allow_and_nothing_else() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"kept.test", origin.port, b"1")
        client.ask(b"cut.test", origin.port, b"2")
        assert door.recheck(lambda verdict: verdict.request.host != "cut.test") == 1
        assert [one.verdict.request.host for one in door.observer.closed] == ["cut.test"]
        client.ask(b"kept.test", origin.port, b"3")
        assert hosts_asked(door) == ["kept.test", "cut.test"], "what is kept is not asked for again"


def test_a_question_that_fails_cuts_the_destination() -> None:
    def fail(verdict: Allowed) -> bool:
        raise ValueError("made up")

    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"x")
        assert door.recheck(fail) == 1


def test_after_a_new_policy_a_denied_destination_is_judged_anew() -> None:
    with relaying() as (door, client, origin):
        for _ in range(2):
            client.send(b"blocked.test", origin.port, b"x")
            client.ask(b"allowed.test", origin.port, b"x")
            assert door.recheck(lambda verdict: True) == 0
        assert hosts_asked(door) == ["blocked.test", "allowed.test", "blocked.test"]


def test_a_new_policy_waits_for_decisions_under_way() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        assert door.authority.waiting.wait(PATIENCE)
        assert door.recheck(lambda verdict: True) == 0
        door.settle_decision()
        assert client.receive().payload == b"x"
        assert hosts_asked(door) == ["slow.test"]


def test_a_decision_of_the_old_policy_that_nobody_has_acted_on_is_made_anew() -> None:
    with relaying() as (door, client, origin):
        client.send(b"slow.test", origin.port, b"x")
        door.settle_decision(and_then=lambda: door.door.recheck(lambda verdict: False))
        assert hosts_asked(door) == ["slow.test", "slow.test"]
        assert not origin.received
        door.settle_decision()
        assert client.receive().payload == b"x"


def test_switching_udp_off_ends_every_association() -> None:
    with relaying() as (door, client, origin), door.client() as other:
        client.ask(b"allowed.test", origin.port, b"x")
        door.authority.serves_udp = False
        assert door.recheck(lambda verdict: True) == 1
        assert client.control.ended()
        assert other.control.ended()


def test_a_broken_configuration_cuts_destinations_and_keeps_the_association() -> None:
    with relaying() as (door, client, origin):
        client.ask(b"allowed.test", origin.port, b"x")
        door.authority.serves_udp = None
        assert door.recheck(lambda verdict: False) == 1
        assert client.ask(b"allowed.test", origin.port, b"y").payload == b"y"
        assert hosts_asked(door) == ["allowed.test", "allowed.test"]


def test_an_origin_that_says_nothing_is_no_trouble() -> None:
    with UdpDoor() as door, UdpOrigin(silence) as origin, door.client() as client:
        client.send(b"allowed.test", origin.port, b"x")
        assert origin.wait() == [b"x"]
