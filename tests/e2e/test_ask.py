"""`serve --ask`: a person decides about hosts that are not listed, in the terminal or in mitmweb."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.canaries import free_port
from tests.kit.doors import CONNECT, PASSED, PLAIN, SOCKS, Door, Outcome
from tests.kit.inner import enter
from tests.kit.mitmweb import Flow, Web, WebReader
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN
from tests.kit.process import Process
from tests.kit.proxy import Event, ProxyProcess, serve_command
from tests.kit.raw import Client, connect, exchange, get
from tests.kit.socks_client import SocksClient
from tests.kit.terminal import TerminalProxy
from tests.kit.udp_client import UdpClient
from tests.kit.udp_origins import UdpOrigin

DOORS = [pytest.param(door, id=door.name) for door in (PLAIN, CONNECT, SOCKS)]
NO = "denied_by_person"
# What the kit asks for to see the end of the audit log is nothing to bother a person with.
ASK = replace(OPEN, denied=(*OPEN.denied, "end-of-the-log.invalid"))


@pytest.fixture
def origin() -> Iterator[HttpOrigin]:
    """An origin of the test's own, so that no other test has settled anything about its port."""
    with HttpOrigin("fresh") as running:
        yield running


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TerminalProxy]:
    with TerminalProxy(tmp_path_factory.mktemp("terminal"), ASK, arguments=["--ask"]) as proxy:
        yield proxy


@pytest.fixture
def people() -> Iterator[ThreadPoolExecutor]:
    """Clients that wait for an answer meanwhile."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


def rows(events: list[Event]) -> list[tuple[object, ...]]:
    keys = ("scope", "decision", "source", "reason", "override")
    return [tuple(event[f"network.policy.{key}"] for key in keys) for event in events]


ALLOWED = ("domain", "allow", "decider", "not_allowed", True)
DENIED = ("domain", "deny", "decider", NO, False)


def about(port: int) -> Callable[[Event], bool]:
    return lambda event: bool(event["server.port"] == port)


# -- in the terminal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
def test_in_the_terminal_a_allows_once_and_d_denies(
    door: Door, terminal: TerminalProxy, origin: HttpOrigin, people: ThreadPoolExecutor
) -> None:
    def ask() -> Future[Outcome]:
        return people.submit(door.ask, terminal, b"evil.test", str(origin.port).encode())

    target = f"evil.test:{origin.port}"
    asked = ask()
    first = terminal.question(target)
    terminal.type(f"{first}a\n")
    assert asked.result().word == PASSED
    again = ask()
    terminal.until_printed(f"[{first + 1}] ")
    terminal.type(f"{first + 1}d\n")
    outcome = again.result()
    assert outcome.word in (NO, "policy_denied"), "the sentence of a CONNECT does not tell"
    assert rows(terminal.audit_events(2, about(origin.port))) == [ALLOWED, DENIED]
    assert f"[{first}] {target}: allowed once" in terminal.output
    assert f"[{first + 1}] {target}: denied" in terminal.output


def test_an_answer_for_this_run_holds_at_every_door(
    terminal: TerminalProxy, origin: HttpOrigin, people: ThreadPoolExecutor
) -> None:
    asked = people.submit(PLAIN.ask, terminal, b"evil.test", str(origin.port).encode())
    terminal.type(f"{terminal.question(f'evil.test:{origin.port}')}r\n")
    assert asked.result().word == PASSED
    for door in (PLAIN, CONNECT, SOCKS):
        assert door.ask(terminal, b"evil.test", str(origin.port).encode()).word == PASSED
    assert rows(terminal.audit_events(4, about(origin.port))) == [ALLOWED] * 4
    assert len([line for line in terminal.questions() if line.endswith(f":{origin.port}")]) == 1


def test_a_datagram_waits_for_the_answer(terminal: TerminalProxy, people: ThreadPoolExecutor) -> None:
    with UdpOrigin() as echoing, UdpClient(terminal.socks) as client:
        client.send(b"evil.test", echoing.port, b"hello")
        terminal.type(f"{terminal.question(f'evil.test:{echoing.port}')}a\n")
        terminal.audit_events(1, about(echoing.port))
        assert client.ask(b"evil.test", echoing.port, b"hello").payload.endswith(b"hello")
        assert rows(terminal.audit_events(1, about(echoing.port))) == [ALLOWED]


def test_what_was_allowed_as_a_tunnel_is_not_asked_again_inside_it(tmp_path: Path, people: ThreadPoolExecutor) -> None:
    policy = replace(LIMITED, lines=("mitm = true",))
    with TerminalProxy(tmp_path, policy, arguments=["--ask"]) as proxy, socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        target = f"evil.test:{held.getsockname()[1]}"
        asked = people.submit(enter, proxy, target)
        proxy.type(f"{proxy.question(target)}a\n")
        with asked.result() as client:
            assert client.ask(f"GET /t HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()).status == 502, "nobody listens"
        assert rows(proxy.audit_events(2)) == [ALLOWED, ALLOWED]
        assert len(proxy.questions()) == 1


@pytest.mark.parametrize("host", [b"denied.test", b"10.0.0.1", b"169.254.169.254"])
def test_about_what_is_closed_anyway_nobody_is_asked(host: bytes, tmp_path: Path) -> None:
    with TerminalProxy(tmp_path, replace(ASK, allow_local_binding=False), arguments=["--ask"]) as proxy:
        for door in (PLAIN, CONNECT, SOCKS):
            assert door.ask(proxy, host, b"80").word in ("denied", "not_allowed_local")
        assert proxy.questions() == []


def test_a_client_that_leaves_takes_its_question_along(terminal: TerminalProxy, origin: HttpOrigin) -> None:
    target = f"evil.test:{origin.port}"
    with Client(terminal.http) as client:
        client.send(connect(target))
        number = terminal.question(target)
    terminal.until_printed(f"[{number}] {target}: the client is gone")
    terminal.type(f"{number}r\n")
    terminal.until_printed("no question waits")
    assert rows(terminal.audit_events(1, about(origin.port)))[0][1] == "deny"


def test_the_host_is_shown_in_its_canonical_spelling(terminal: TerminalProxy) -> None:
    with SocksClient(terminal.socks) as socks:
        assert socks.command(b"\x1b[31mevil.test", 80).code == 2
    with Client(terminal.http) as client:
        client.send("CONNECT \u0435VIL.test.:80 HTTP/1.1\r\nHost: evil.test:80\r\n\r\n".encode())
        terminal.type(f"{terminal.question('xn--vil-qdd.test:80')}d\n")
        assert client.read("CONNECT").status == 403
    assert "\x1b" not in terminal.output


def test_a_flood_of_unknown_hosts_stays_bounded(tmp_path: Path, origin: HttpOrigin) -> None:
    with TerminalProxy(tmp_path, ASK, arguments=["--ask"]) as proxy:
        clients = [Client(proxy.http) for _ in range(1_000)]
        for number, client in enumerate(clients):
            client.send(connect(f"h{number}.test:443"))
        events = proxy.audit_events(968)
        assert {row[1:4] for row in rows(events)} == {("deny", "decider", "ask_queue_full")}
        assert len(proxy.questions()) == 32
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
        assert len(proxy.output.splitlines()) < 60, proxy.output
        waiting = re.findall(r"^\[(\d+)\] CONNECT to h(\d+)\.test", proxy.output, re.MULTILINE)
        for number, _ in waiting:
            proxy.type(f"{number}d\n")
        for _, host in waiting:
            assert clients[int(host)].read("CONNECT").status == 403
        for client in clients:
            client.sock.close()
        assert proxy.stop() == 0


def test_the_end_does_not_wait_for_answers(tmp_path: Path) -> None:
    with TerminalProxy(tmp_path, ASK, arguments=["--ask"]) as proxy, Client(proxy.http) as client:
        client.send(connect("evil.test:443"))
        proxy.question("evil.test:443")
        assert proxy.stop(signal.SIGINT) == 0
        assert rows(proxy.audit_events(1))[0][1] == "deny"
    assert "Traceback" not in proxy.output


def test_without_a_terminal_and_without_mitmweb_it_does_not_start(tmp_path: Path) -> None:
    with Process(serve_command("--ask"), {"HOME": str(tmp_path), "PATH": ""}, tmp_path) as process:
        assert process.ended() == 2
    assert process.output == "--ask needs somebody to answer: run it in a terminal, or with --web\n"


# -- in mitmweb --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    arguments = ["--ask", "--web", "--web-port", str(free_port())]
    with ProxyProcess(tmp_path_factory.mktemp("web"), ASK, arguments=arguments) as proxy:
        reader = WebReader(proxy)
        yield Web(proxy, reader.address, reader.token)


def waiting_for(web: Web, port: int) -> Flow:
    """The intercepted entry about this port, once it is there."""
    found: list[Flow] = []

    def shown() -> bool:
        found[:] = [flow for flow in web.flows() if flow["intercepted"] and flow["request"]["port"] == port]
        return bool(found)

    web.proxy.until(shown, "an intercepted entry")
    return found[0]


METHODS = {"plain": "GET", "connect": "CONNECT", "socks": "SOCKS5"}


@pytest.mark.parametrize("door", DOORS)
def test_in_mitmweb_resume_allows_once_and_abort_denies(
    door: Door, web: Web, origin: HttpOrigin, people: ThreadPoolExecutor
) -> None:
    for change, word in (("resume", PASSED), ("kill", NO)):
        asked = people.submit(door.ask, web.proxy, b"evil.test", str(origin.port).encode())
        flow = waiting_for(web, origin.port)
        assert (flow["request"]["host"], flow["request"]["method"]) == ("evil.test", METHODS[door.name])
        assert flow["comment"].startswith("allow? ")
        web.change("POST", f"/flows/{flow['id']}/{change}")
        assert asked.result().word in (word, "policy_denied" if word == NO else word)
        web.proxy.until(lambda flow=flow: flow["id"] not in {one["id"] for one in web.flows()}, "its end")  # type: ignore[misc]  # the flow of this turn
    assert rows(web.proxy.audit_events(2, about(origin.port))) == [ALLOWED, DENIED]


def test_a_marked_entry_that_is_resumed_allows_for_this_run(
    web: Web, origin: HttpOrigin, people: ThreadPoolExecutor
) -> None:
    asked = people.submit(CONNECT.ask, web.proxy, b"evil.test", str(origin.port).encode())
    flow = waiting_for(web, origin.port)
    web.change("PUT", f"/flows/{flow['id']}", {"marked": ":red_circle:"})
    web.change("POST", f"/flows/{flow['id']}/resume")
    assert asked.result().word == PASSED
    for door in (PLAIN, CONNECT, SOCKS):
        assert door.ask(web.proxy, b"evil.test", str(origin.port).encode()).word == PASSED


def test_to_delete_the_entry_is_to_deny(web: Web, origin: HttpOrigin, people: ThreadPoolExecutor) -> None:
    asked = people.submit(PLAIN.ask, web.proxy, b"evil.test", str(origin.port).encode())
    web.change("DELETE", f"/flows/{waiting_for(web, origin.port)['id']}")
    assert asked.result().word == NO


def test_an_entry_that_is_edited_allows_what_was_asked_and_nothing_else(
    web: Web, origin: HttpOrigin, people: ThreadPoolExecutor
) -> None:
    asked = people.submit(PLAIN.ask, web.proxy, b"evil.test", str(origin.port).encode())
    flow = waiting_for(web, origin.port)
    web.change("PUT", f"/flows/{flow['id']}", {"request": {"host": "denied.test"}})
    web.change("POST", f"/flows/{flow['id']}/resume")
    assert asked.result().word == PASSED
    assert PLAIN.ask(web.proxy, b"denied.test", str(origin.port).encode()).word == "denied"
    assert {event["server.address"] for event in web.proxy.audit_events(2, about(origin.port))} == {
        "evil.test",
        "denied.test",
    }


def test_resume_all_and_replay_lead_nowhere_else(web: Web, origin: HttpOrigin, people: ThreadPoolExecutor) -> None:
    asked = people.submit(PLAIN.ask, web.proxy, b"evil.test", str(origin.port).encode())
    flow = waiting_for(web, origin.port)
    web.change("POST", f"/flows/{flow['id']}/replay")
    web.change("POST", f"/flows/{flow['id']}/duplicate")
    copies = [one for one in web.flows() if one["intercepted"] and one["id"] != flow["id"]]
    for copy in copies:
        web.change("POST", f"/flows/{copy['id']}/resume")
    assert not asked.done()
    assert not origin.recorder.heads
    web.change("POST", "/flows/resume")
    assert asked.result().word == PASSED
