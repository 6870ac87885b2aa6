"""The audit log and the log lines: every decision once, tied to its answer, and never more than may be told."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.kit.answers import request_id
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN, STRICT, Policy
from tests.kit.proxy import Event, ProxyProcess
from tests.kit.raw import Client, connect, exchange, fresh_connection, get, request
from tests.kit.socks_client import SocksClient

FIELDS = {
    "event.name",
    "event.timestamp",
    "request.id",
    "network.policy.scope",
    "network.policy.decision",
    "network.policy.source",
    "network.policy.reason",
    "network.policy.override",
    "network.policy.rule",
    "network.transport.protocol",
    "server.address",
    "server.port",
    "http.request.method",
    "client.address",
    "network.peer.address",
}


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def from_client(proxy: ProxyProcess, address: str, count: int) -> list[Event]:
    return proxy.audit_events(count, lambda event: event["client.address"] == address)


def short(event: Event) -> tuple[str, ...]:
    keys = ("scope", "decision", "source", "reason")
    return tuple(str(event[f"network.policy.{key}"]) for key in keys)


SITUATIONS = [
    pytest.param(OPEN, "GET", "allowed.test", [("domain", "allow", "baseline_policy", "allow")], id="allowed"),
    pytest.param(OPEN, "GET", "evil.test", [("domain", "deny", "baseline_policy", "not_allowed")], id="not listed"),
    pytest.param(OPEN, "GET", "denied.test", [("domain", "deny", "baseline_policy", "denied")], id="denied"),
    pytest.param(
        STRICT, "GET", "allowed.test", [("domain", "deny", "baseline_policy", "not_allowed_local")], id="local"
    ),
    pytest.param(
        LIMITED,
        "POST",
        "allowed.test",
        [("domain", "allow", "baseline_policy", "allow"), ("non_domain", "deny", "mode_guard", "method_not_allowed")],
        id="a method refused in limited mode",
    ),
    pytest.param(
        LIMITED,
        "POST",
        "denied.test",
        [("domain", "deny", "baseline_policy", "denied")],
        id="a denied host comes first",
    ),
    pytest.param(
        LIMITED,
        "CONNECT",
        "allowed.test",
        [("domain", "allow", "baseline_policy", "allow"), ("non_domain", "deny", "mode_guard", "mitm_required")],
        id="a tunnel that would need inspection",
    ),
    pytest.param(
        OPEN, "CONNECT", "denied.test", [("domain", "deny", "baseline_policy", "denied")], id="a denied tunnel"
    ),
    pytest.param(
        OPEN, "CONNECT", "allowed.test", [("domain", "allow", "baseline_policy", "allow")], id="an allowed tunnel"
    ),
]


@pytest.mark.parametrize(("policy", "method", "host", "rows"), SITUATIONS)
def test_each_decision_is_one_event(
    policy: Policy,
    method: str,
    host: str,
    rows: list[tuple[str, ...]],
    fleet: Fleet,
    fast_path: bool,
    origin: HttpOrigin,
) -> None:
    proxy = fleet.get(policy, fast_path)
    target = f"{host}:{origin.port}"
    with Client(proxy.http, sock=fresh_connection(proxy.http)) as client:
        head = connect(target) if method == "CONNECT" else request(method, f"http://{target}/secret/path?token=canary")
        answer = client.ask(head, method)
        events = from_client(proxy, client.address, len(rows))
        address = client.address
    assert [short(event) for event in events] == rows
    for event in events:
        assert set(event) <= FIELDS, "nothing else may be told"
        assert event["event.name"] == "codex.network_proxy.policy_decision"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["event.timestamp"])
        assert event["network.transport.protocol"] == ("https_connect" if method == "CONNECT" else "http")
        assert (event["server.address"], event["server.port"]) == (host, origin.port)
        assert (event["http.request.method"], event["client.address"]) == (method, address)
        if event["network.policy.decision"] == "deny":
            assert event["request.id"] == request_id(answer)
    assert len({event["request.id"] for event in events}) == 1


ALLOW, BASE = ("domain", "allow", "baseline_policy", "allow"), ("domain", "deny", "baseline_policy")
SOCKS_SITUATIONS = [
    pytest.param(OPEN, b"allowed.test", 0, [ALLOW], id="allowed"),
    pytest.param(OPEN, b"evil.test", 2, [(*BASE, "not_allowed")], id="not listed"),
    pytest.param(OPEN, b"denied.test", 2, [(*BASE, "denied")], id="denied"),
    pytest.param(STRICT, b"allowed.test", 2, [(*BASE, "not_allowed_local")], id="local"),
    pytest.param(
        LIMITED, b"allowed.test", 2, [ALLOW, ("non_domain", "deny", "mode_guard", "method_not_allowed")], id="limited"
    ),
    pytest.param(LIMITED, b"denied.test", 2, [(*BASE, "denied")], id="a denied host comes first"),
]


@pytest.mark.parametrize(("policy", "host", "code", "rows"), SOCKS_SITUATIONS)
def test_each_decision_on_socks_is_one_event(
    policy: Policy, host: bytes, code: int, rows: list[tuple[str, ...]], fleet: Fleet, origin: HttpOrigin
) -> None:
    proxy = fleet.get(policy)
    with SocksClient(proxy.socks) as client:
        assert client.command(host, origin.port).code == code
        events = from_client(proxy, client.address, len(rows))
    assert [short(event) for event in events] == rows
    for event in events:
        assert set(event) <= FIELDS, "nothing else may be told"
        assert (event["network.transport.protocol"], event["http.request.method"]) == ("socks5_tcp", "none")
        assert (event["server.address"], event["server.port"]) == (host.decode(), origin.port)


def test_an_allowed_request_names_rule_and_address(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http, sock=fresh_connection(proxy.http)) as client:
        assert client.ask(get(f"http://a.sub.test:{origin.port}/t")).status == 200
        (event,) = from_client(proxy, client.address, 1)
    assert event["network.policy.rule"] == "*.sub.test"
    assert event["network.peer.address"] == "127.0.0.1"


def test_the_id_ties_answer_event_and_log_line(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    plain = exchange(proxy.http, get(f"http://evil.test:{origin.port}/t"))
    tunnel = exchange(proxy.http, connect(f"evil.test:{origin.port}"), "CONNECT")
    assert plain.json()["request_id"] == request_id(plain)
    for answer, words in ((plain, "request blocked"), (tunnel, "CONNECT blocked")):
        assert proxy.events_of(request_id(answer))
        proxy.until_printed(request_id(answer))
        (line,) = [line for line in proxy.output.splitlines() if request_id(answer) in line]
        assert words in line
        assert "host=evil.test" in line
        assert "reason=not_allowed" in line
        assert "client=127.0.0.1:" in line


def test_m02_nothing_of_path_query_headers_or_body_is_kept(tmp_path: Path, fast_path: bool, origin: HttpOrigin) -> None:
    with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, arguments=["-v"]) as proxy:
        for host in ("allowed.test", "evil.test", "denied.test"):
            url = f"http://{host}:{origin.port}/echo/canary-path?canary-query=1"
            fields = ("X-Secret: canary-field", "Authorization: Bearer canary-token", "Cookie: canary=1")
            exchange(proxy.http, request("POST", url, *fields, body=b"canary-body"))
            exchange(proxy.http, get(f"http://{host}:1/canary-path"))
        proxy.audit_events(6)
        assert proxy.stop() == 0
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert "canary" not in proxy.output
        assert [path for path in kept if b"canary" in path.read_bytes()] == []


NASTY = [b"\x1b[31mevil.test", b"evil.test\x07", b"<script>.evil.test", b'"quote".evil.test', b"evil.test\xc2\x9b0m"]


@pytest.mark.parametrize("host", NASTY, ids=repr)
def test_m01_nasty_bytes_never_reach_a_terminal(host: bytes, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    for head in (b"GET http://%b/t HTTP/1.1\r\nHost: %b\r\n\r\n", b"CONNECT %b:443 HTTP/1.1\r\nHost: %b:443\r\n\r\n"):
        answer = exchange(proxy.http, head % (host, host))
        assert answer.status in (400, 403), answer
        assert not re.search("[\x00-\x1f\x7f-\x9f<]", answer.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", proxy.output)


def test_the_log_is_private_and_one_object_each_line(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        for _ in range(20):
            exchange(proxy.http, get("http://denied.test/"))
        proxy.audit_events(20)
        assert proxy.audit_log.stat().st_mode & 0o777 == 0o600
        assert proxy.stop() == 0
    lines = proxy.audit_log.read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 20


def test_events_are_written_out_at_the_end(tmp_path: Path) -> None:
    with ProxyProcess(tmp_path, OPEN) as proxy:
        for _ in range(50):
            exchange(proxy.http, get("http://denied.test/"))
        assert proxy.stop() == 0
    assert len(proxy.audit_log.read_text().splitlines()) == 50


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_m06_a_full_disk_delays_no_decision(tmp_path: Path, fast_path: bool, origin: HttpOrigin) -> None:
    with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, audit=Path("/dev/full")) as proxy:
        for _ in range(30):
            assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
            assert exchange(proxy.http, get(f"http://denied.test:{origin.port}/t")).status == 403
        proxy.until(lambda: "audit" in proxy.output, "a word about the audit log")
        assert proxy.stop() == 0
    assert "Traceback" not in proxy.output
    assert re.search(r"drop|lost", proxy.output), "the log says that events were lost"


def test_m06_where_the_log_is_required_nothing_passes_until_it_can_be_written(
    tmp_path: Path, fast_path: bool, origin: HttpOrigin
) -> None:
    blocked = tmp_path / "audit.jsonl"
    blocked.mkdir()
    arguments = ["--fail-closed-audit"]
    with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, audit=blocked, arguments=arguments) as proxy:
        mark = origin.recorder.mark()
        for head, method in (
            (get(f"http://allowed.test:{origin.port}/t"), "GET"),
            (connect(f"allowed.test:{origin.port}"), "CONNECT"),
        ):
            answer = exchange(proxy.http, head, method)
            assert (answer.status, answer.text, answer.get("x-proxy-error")) == (500, "error", None)
        with SocksClient(proxy.socks) as client:
            assert client.command(b"allowed.test", origin.port).code == 1
        assert not origin.recorder.since(mark)
        proxy.until_printed("failed; the audit log cannot be written (")
        blocked.rmdir()
        proxy.until_printed("is written again; 0 events were lost")
        assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200
        assert len(proxy.audit_events(1)) == 1
        assert proxy.stop() == 0
    assert "Traceback" not in proxy.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_m06_where_the_log_is_required_a_disk_that_is_full_closes_everything(
    tmp_path: Path, origin: HttpOrigin
) -> None:
    """It is noticed by the first event that does not fit."""
    with ProxyProcess(tmp_path, OPEN, audit=Path("/dev/full"), arguments=["--fail-closed-audit"]) as proxy:
        allowed = get(f"http://allowed.test:{origin.port}/t")
        exchange(proxy.http, allowed)
        proxy.until_printed("cannot be written: No space left on device")
        assert exchange(proxy.http, allowed).status == 500


def test_m06_a_log_that_cannot_be_written_is_said(tmp_path: Path, origin: HttpOrigin) -> None:
    blocked = tmp_path / "folder.jsonl"
    blocked.mkdir()
    proxy = ProxyProcess(tmp_path, OPEN, audit=blocked)
    proxy.start()
    try:
        proxy.until(lambda: proxy.ready_file.exists() or proxy.child.poll() is not None, "a start or a refusal")
        proxy.until_printed("folder.jsonl")
        if proxy.ready_file.exists():
            proxy.wait_ready()
            assert exchange(proxy.http, get(f"http://denied.test:{origin.port}/t")).status == 403
    finally:
        proxy.__exit__(None, None, None)
    assert "Traceback" not in proxy.output
