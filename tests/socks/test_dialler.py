from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from codex_network_proxy.socks import dialler as module
from codex_network_proxy.socks.dialler import DialError, DialFailure, Dialled, Dialler, dial

from .sockets import answer_later, new_poller, run, stalling, until

HOME = IPv4Address("127.0.0.1")
LONG, SHORT = 5.0, 0.01


@contextlib.contextmanager
def listening(host: str = "127.0.0.1", port: int = 0) -> Iterator[int]:
    with socket.create_server((host, port)) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def refusing(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that nobody listens on and nobody else can have meanwhile."""
    with socket.socket() as holder:
        holder.bind((host, 0))
        yield holder.getsockname()[1]


def outcome_of(
    addresses: list[str], port: int, fallback: float = LONG, limit: float = LONG
) -> tuple[str | DialFailure, bool]:
    """The peer that was reached, or the failure; and whether anything was left behind."""

    async def body() -> tuple[str | DialFailure, bool]:
        poller = new_poller()
        dialler = Dialler(asyncio.get_running_loop(), poller, fallback=fallback, limit=limit)
        outcomes: list[Dialled] = []
        dialler.dial([ip_address(address) for address in addresses], port, outcomes.append)
        await until(lambda: bool(outcomes))
        outcome = outcomes[0]
        result: str | DialFailure
        if isinstance(outcome, socket.socket):
            assert outcome.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert not outcome.getblocking()
            result = outcome.getpeername()[0]
            poller.close_socket(outcome)
        else:
            result = outcome
        left_behind = bool(poller._watchers or len(dialler._limited) or len(dialler._staggered))
        dialler.close()
        poller.close()
        return result, left_behind

    return run(body)


def test_the_first_address_that_answers_is_used() -> None:
    with listening("127.0.0.1") as port:
        assert outcome_of(["127.0.0.1", "127.0.0.2"], port) == ("127.0.0.1", False)


def test_a_refusal_leads_to_the_next_address_at_once() -> None:
    with refusing("127.0.0.1") as port, listening("127.0.0.2", port):
        assert outcome_of(["127.0.0.1", "127.0.0.2"], port) == ("127.0.0.2", False)


def test_an_address_that_does_not_answer_loses_its_head_start() -> None:
    with stalling("127.0.0.1") as port, listening("127.0.0.2", port):
        assert outcome_of(["127.0.0.1", "127.0.0.2"], port, fallback=SHORT) == ("127.0.0.2", False)


def test_an_answer_that_comes_later_is_used_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    answer_later(monkeypatch)
    with refusing("127.0.0.1") as port, listening("127.0.0.2", port):
        assert outcome_of(["127.0.0.1", "127.0.0.2"], port) == ("127.0.0.2", False)
        assert outcome_of(["127.0.0.1"], port) == (DialFailure.REFUSED, False)


def test_a_socket_that_met_itself_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    bound_to_its_target = socket.socket()
    bound_to_its_target.setblocking(False)
    bound_to_its_target.bind(("127.0.0.1", 0))
    target = bound_to_its_target.getsockname()
    monkeypatch.setattr(module, "_socket_for", lambda *_: (bound_to_its_target, target))
    assert outcome_of(["127.0.0.1"], target[1]) == (DialFailure.REFUSED, False)


def test_the_limit_ends_every_attempt() -> None:
    with stalling("127.0.0.1") as port:
        assert outcome_of(["127.0.0.1"], port, limit=SHORT) == (DialFailure.TIMED_OUT, False)


@pytest.mark.parametrize(
    ("addresses", "failure"),
    [
        pytest.param(["127.0.0.1"], DialFailure.REFUSED, id="nobody listens"),
        pytest.param(["127.0.0.1", "255.255.255.255"], DialFailure.REFUSED, id="the most telling of two"),
        pytest.param(["255.255.255.255", "127.0.0.1"], DialFailure.REFUSED, id="in either order"),
        pytest.param(["255.255.255.255"], DialFailure.NETWORK_UNREACHABLE, id="no way there"),
        pytest.param(["fe80::1%nowhere"], DialFailure.OTHER, id="an interface that does not exist"),
        pytest.param([], DialFailure.OTHER, id="no address at all"),
    ],
)
def test_failures_have_names(addresses: list[str], failure: DialFailure) -> None:
    with refusing("127.0.0.1") as port:
        assert outcome_of(addresses, port) == (failure, False)


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (errno.EHOSTUNREACH, DialFailure.HOST_UNREACHABLE),
        (errno.ENETUNREACH, DialFailure.NETWORK_UNREACHABLE),
        (errno.ETIMEDOUT, DialFailure.TIMED_OUT),
        (errno.ECONNREFUSED, DialFailure.REFUSED),
        (errno.EMFILE, DialFailure.OTHER),
    ],
)
def test_every_errno_has_a_name(code: int, failure: DialFailure, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(address: object, port: int) -> None:
        raise OSError(code, "made up")

    monkeypatch.setattr(module, "_socket_for", broken)
    assert outcome_of(["127.0.0.1"], 1) == (failure, False)


def test_ipv6_is_dialled_with_its_zone() -> None:
    sock, address = module._socket_for(IPv6Address("fe80::1%lo"), 443)
    with sock:
        assert address == ("fe80::1", 443, 0, socket.if_nametoindex("lo"))
    sock, address = module._socket_for(IPv6Address("::1"), 443)
    with sock:
        assert address == ("::1", 443, 0, 0)
    sock, address = module._socket_for(IPv6Address("fe80::1%3"), 443)
    with sock:
        assert address == ("fe80::1", 443, 0, 3)


def test_a_number_that_no_interface_has_is_not_taken_for_another() -> None:
    with pytest.raises(OSError, match="no such interface"):
        module._socket_for(IPv6Address("fe80::1%4294967297"), 443)


def test_a_cancelled_dial_reports_nothing() -> None:
    async def body() -> None:
        poller = new_poller()
        dialler = Dialler(asyncio.get_running_loop(), poller)
        outcomes: list[Dialled] = []
        with stalling("127.0.0.1") as port:
            attempt = dialler.dial([HOME], port, outcomes.append)
            attempt.cancel()
            attempt.cancel()
            attempt.finish(DialFailure.OTHER)
        assert (outcomes, poller._watchers) == ([], {})
        dialler.close()
        poller.close()

    run(body)


def test_who_awaits_a_dial_gets_the_socket() -> None:
    async def body() -> None:
        with listening() as port:
            sock = await dial([HOME], port)
            assert sock.getpeername() == ("127.0.0.1", port)
            assert not asyncio.get_running_loop().remove_writer(sock.fileno())
            sock.close()

    run(body)


def test_who_awaits_a_dial_gets_an_error_by_name() -> None:
    async def body() -> None:
        with refusing() as port, pytest.raises(DialError, match="connection refused") as refused:
            await dial([HOME], port)
        assert refused.value.failure is DialFailure.REFUSED

    run(body)


def test_a_cancelled_wait_leaves_no_socket_behind() -> None:
    async def body() -> None:
        with stalling("127.0.0.1") as port:
            waiting = asyncio.ensure_future(dial([HOME], port))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(body)  # an open socket would be a ResourceWarning, which is an error


def test_a_wait_cancelled_at_the_last_moment_closes_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        with listening() as port:
            waiting: asyncio.Future[socket.socket] = asyncio.ensure_future(dial([HOME], port))
            settle = module.Dial.settle

            def settle_and_cancel(self: module.Dial, attempt: module._Attempt, error: int) -> None:
                settle(self, attempt, error)
                waiting.cancel()

            monkeypatch.setattr(module.Dial, "settle", settle_and_cancel)
            answer_later(monkeypatch)
            with pytest.raises(asyncio.CancelledError):
                await waiting

    run(body)
