"""Whatever breaks inside, nothing gets out that the policy did not allow. Here it is made to break."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.checkout import copy_checkout
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.process import REPO, Process
from tests.kit.proxy import MitmdumpProcess, ProxyProcess
from tests.kit.raw import Client, attempt, connect, exchange, get, request
from tests.kit.world import World

CODEX = REPO / "addons" / "codex.py"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Engine(MitmdumpProcess):
    """mitmdump with the add-on, another script before or after it, and a listener of the user's own.

    The own listener is where the engine does everything itself, and so the harder case.
    """

    def __init__(
        self, home: Path, other: str = "", where: str = "after", arguments: Sequence[str] = (), codex: Path = CODEX
    ) -> None:
        self.own_port = free_port()
        home.mkdir(exist_ok=True)
        scripts = [codex]
        if other:
            path = home / "other.py"
            path.write_text(other)
            scripts.insert(0 if where == "before" else 1, path)
        own = ["--listen-host", "127.0.0.1", "-p", str(self.own_port)]
        more = [part for path in scripts[1:] for part in ("-s", str(path))]
        super().__init__(home, OPEN, script=scripts[0], arguments=[*more, *own, *arguments])

    def wait_ready(self, patience: float = 15.0) -> None:
        super().wait_ready(patience)
        self.until(lambda: ("127.0.0.1", self.own_port) in self.world.binds(), "the own listener")

    @property
    def listeners(self) -> tuple[str, str]:
        return self.http, f"127.0.0.1:{self.own_port}"


def check_closed(engine: Engine, origin: HttpOrigin) -> None:
    """Denied and unlisted hosts get nothing through on any listener, plain or tunnelled."""
    mark = origin.recorder.mark()
    for address in engine.listeners:
        for host in ("denied.test", "evil.test"):
            at = f"{host}:{origin.port}"
            for data, method in (
                (get(f"http://{at}/t"), "GET"),
                (request("POST", f"http://{at}/t", body=b"secret"), "POST"),
                (connect(at), "CONNECT"),
            ):
                answer = attempt(address, data, method)
                assert answer is None or answer.status >= 400, answer
    assert not origin.recorder.since(mark)


HOOKS = [
    "requestheaders",
    "request",
    "http_connect",
    "server_connect",
    "client_connected",
    "next_layer",
    "server_connected",
]
RAISING = "def {hook}(*args):\n    raise RuntimeError('made to break')\n"


@pytest.mark.parametrize("where", ["before", "after"])
def test_another_script_whose_every_hook_raises(where: str, tmp_path: Path, origin: HttpOrigin) -> None:
    text = "".join(RAISING.format(hook=hook) for hook in HOOKS)
    with Engine(tmp_path, text, where) as engine:
        check_closed(engine, origin)


REWRITES = {
    "the request's host": "flow.request.host = 'denied.test'",
    "the request's URL": "flow.request.url = 'http://denied.test:' + str(flow.request.port)",
    "the request's raw host": "flow.request.data.host = 'denied.test'",
}


@pytest.mark.parametrize("what", REWRITES)
@pytest.mark.parametrize("where", ["before", "after"])
def test_another_script_that_rewrites(where: str, what: str, tmp_path: Path, origin: HttpOrigin) -> None:
    """The rewritten target is judged as what it became, or nothing is dialled."""
    text = "".join(f"def {hook}(flow):\n    {REWRITES[what]}\n" for hook in ("requestheaders", "request"))
    with Engine(tmp_path, text, where) as engine:
        mark = origin.recorder.mark()
        for address in engine.listeners:
            answer = attempt(address, get(f"http://allowed.test:{origin.port}/t"))
            assert answer is None or answer.status >= 400, answer
        assert "denied.test" not in engine.world.lookups()
        assert not origin.recorder.since(mark)


def test_another_script_that_rewrites_the_port(tmp_path: Path, origin: HttpOrigin) -> None:
    with HttpOrigin("elsewhere") as elsewhere:
        text = f"def request(flow):\n    flow.request.port = {elsewhere.port}\n"
        with Engine(tmp_path, text) as engine:
            for address in engine.listeners:
                attempt(address, get(f"http://allowed.test:{origin.port}/t"))
        assert not elsewhere.recorder.connections, "decided for one port, so no other is dialled"


def test_another_script_that_rewrites_the_dialled_address(tmp_path: Path, origin: HttpOrigin) -> None:
    with HttpOrigin("elsewhere") as elsewhere:
        text = f"def server_connect(data):\n    data.server.address = ('127.0.0.1', {elsewhere.port})\n"
        for number, where in enumerate(("before", "after")):
            with Engine(tmp_path / str(number), text, where) as engine:
                for address in engine.listeners:
                    answer = attempt(address, get(f"http://allowed.test:{origin.port}/t"))
                    assert answer is None or answer.status >= 400, answer
        assert not elsewhere.recorder.connections


def test_another_script_that_takes_our_answer_away(tmp_path: Path, origin: HttpOrigin) -> None:
    hooks = ("requestheaders", "request", "http_connect")
    text = "".join(f"def {hook}(flow):\n    flow.response = None\n    flow.error = None\n" for hook in hooks)
    with Engine(tmp_path, text) as engine:
        check_closed(engine, origin)


OPTIONS = [
    ["--map-remote", "|//allowed.test|//denied.test"],
    ["--modify-headers", "/~q/Host/denied.test"],
    ["--set", "connection_strategy=lazy", "--set", "http2=false", "--set", "keep_host_header=true"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options_of_the_engine_open_nothing(options: list[str], tmp_path: Path, origin: HttpOrigin) -> None:
    with Engine(tmp_path, arguments=options) as engine:
        check_closed(engine, origin)
        for address in engine.listeners:
            attempt(address, get(f"http://allowed.test:{origin.port}/t"))
        assert "denied.test" not in engine.world.lookups()
        assert all(b"denied.test" not in head for head in origin.recorder.heads)


LOCKED = [
    ["--ignore-hosts", ".*"],
    ["--allow-hosts", "nothing"],
    ["--tcp-hosts", ".*"],
    ["--set", "ssl_insecure=true"],
    ["--set", "stream_large_bodies=1"],
    ["--set", "proxy_debug=true"],
    ["--set", "validate_inbound_headers=false"],
    ["--mode", "upstream:http://127.0.0.1:9"],
    ["--mode", "socks5@127.0.0.1:0"],
]


@pytest.mark.parametrize("options", LOCKED, ids=" ".join)
def test_options_that_would_lead_around_the_policy_are_refused(
    options: list[str], tmp_path: Path, origin: HttpOrigin
) -> None:
    """The program does not start, or it starts without the option."""
    proxy = MitmdumpProcess(tmp_path, OPEN, arguments=options)
    with Process(proxy.command, proxy.environment, tmp_path) as process:
        process.until(lambda: "listening on" in process.output or process.child.poll() is not None, "an outcome")
        if process.child.poll() is None:
            proxy.http = proxy.address_in(process.output)
            mark = origin.recorder.mark()
            answer = exchange(proxy.http, get(f"http://denied.test:{origin.port}/t"))
            assert answer.status == 403, answer
            assert not origin.recorder.since(mark)
        name = options[-1].partition("=")[0] if options[0] == "--set" else options[0].removeprefix("--")
        assert name.replace("-", "_") in process.output, process.output


def test_the_engines_own_pages_are_not_served(tmp_path: Path) -> None:
    with Engine(tmp_path) as engine:
        for address in engine.listeners:
            answer = exchange(address, get("http://mitm.it/"))
            assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-allowlist"), answer


BREAKINGS: dict[str, Callable[[Path], object]] = {
    "saved with a syntax error": lambda path: path.write_text("this is no python ("),
    "saved with an exception": lambda path: path.write_text("raise RuntimeError('made to break')"),
    "saved empty": lambda path: path.write_text(""),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", BREAKINGS)
def test_the_entry_point_breaks_while_it_runs(how: str, tmp_path: Path, origin: HttpOrigin) -> None:
    codex = copy_checkout(tmp_path / "checkout")
    with Engine(tmp_path / "home", codex=codex) as engine:
        assert exchange(engine.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
        before = len(engine.output)
        BREAKINGS[how](codex)
        engine.until(lambda: "cript" in engine.output[before:], "a word of the engine about its script")
        check_closed(engine, origin)


def test_a_tunnel_opened_before_the_script_broke_goes_nowhere_else(tmp_path: Path, origin: HttpOrigin) -> None:
    codex = copy_checkout(tmp_path / "checkout")
    with Engine(tmp_path / "home", codex=codex) as engine, Client(engine.listeners[1]) as client:
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200
        before = len(engine.output)
        codex.unlink()
        engine.until(lambda: "cript" in engine.output[before:], "a word of the engine about its script")
        mark = origin.recorder.mark()
        client.send(get(f"http://evil.test:{origin.port}/t"))
        assert client.ended() or client.read().status >= 400
        assert not origin.recorder.since(mark)


SABOTAGE = """
import sys

def _break(*args, **kwargs):
    raise RuntimeError("made to break")

class Sabotage:
    def load(self, loader):
        from codex_network_proxy.{module} import {name}
        {name}.{attribute} = _break

addons = [Sabotage()]
"""


@pytest.mark.parametrize(
    ("module", "name", "attribute"),
    [
        pytest.param("addons.authority", "Authority", "decide", id="the decision"),
        pytest.param("addons.allowlist", "Allowlist", "requestheaders", id="the allowlist's hook"),
        pytest.param("policy.domains", "PatternSet", "match", id="the lookup of patterns"),
        pytest.param("addons.audit_log", "AuditLog", "emit", id="the audit log"),
    ],
)
def test_our_own_code_raises(module: str, name: str, attribute: str, tmp_path: Path, origin: HttpOrigin) -> None:
    text = SABOTAGE.format(module=module, name=name, attribute=attribute)
    with Engine(tmp_path, text) as engine:
        check_closed(engine, origin)
        if attribute in ("decide", "match"):
            mark = origin.recorder.mark()
            for data, method in (
                (get(f"http://allowed.test:{origin.port}/t"), "GET"),
                (connect(f"allowed.test:{origin.port}"), "CONNECT"),
            ):
                answer = attempt(engine.http, data, method)
                if answer is None and attribute == "decide":
                    continue  # What never raises was made to raise: the connection is cut.
                assert answer is not None
                assert (answer.status, answer.get("x-proxy-error")) in ((403, "blocked-by-policy"), (500, None)), answer
            assert not origin.recorder.since(mark)


def test_a_lookup_that_hangs_costs_its_own_request_only(tmp_path: Path, origin: HttpOrigin, fast_path: bool) -> None:
    world = World(tmp_path / "world", {f"hang{number}.test": ["hang"] for number in range(20)})
    policy = replace(OPEN, allowed=(*OPEN.allowed, "hang*.test"))
    with ProxyProcess(tmp_path, policy, fast_path=fast_path, world=world) as proxy:
        stuck = [Client(proxy.http) for _ in range(20)]
        for number, client in enumerate(stuck):
            target = f"hang{number}.test"
            client.send(connect(f"{target}:443") if number % 2 else get(f"http://{target}/"))
        proxy.until(lambda: len(world.lookups()) >= 20, "twenty look-ups under way")
        with Client(proxy.http, timeout=1) as quick:
            assert quick.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200
            assert quick.ask(get(f"http://denied.test:{origin.port}/t")).status == 403
        for number, client in enumerate(stuck):
            answer = client.read("CONNECT" if number % 2 else "GET")
            assert answer.status == 502, answer
            assert answer.text == f"upstream failure: could not resolve hang{number}.test"
            client.sock.close()
        assert set(proxy.world.dials()) == {("127.0.0.1", origin.port)}
