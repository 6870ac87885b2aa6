"""Requests that name a unix socket, as on macOS: to the file that is allowed and nothing else (A9, B4.4; L05, L06)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.answers import request_id
from tests.kit.canaries import free_port
from tests.kit.clients import Done, need, run
from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, SECRET_VARIABLE, Hook, Inject, hook_lines, inspecting
from tests.kit.inner import INNER_DOORS, Inner, InnerDoor
from tests.kit.memory import GROWTH, Memory, needs_proc
from tests.kit.mitmweb import WebReader
from tests.kit.origins import CHUNK, RAW_ANSWERS, Exchange, HttpOrigin
from tests.kit.policies import OPEN, Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, attempt, connect, exchange, get
from tests.kit.recipes import SOCKET, SOCKET_BLOCKED, block_of, recipe
from tests.kit.short_paths import short_folder
from tests.kit.wire import Response

SIZE = 1 << 28
FAILED = "unix socket proxy failed"


def switching(exchange: Exchange) -> None:
    exchange.start("101 Switching Protocols", "upgrade: tcp", "connection: upgrade")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[HttpOrigin]:
    """An allowed socket, and links to it and to the secret one."""
    (folder / "link").symlink_to("a.sock")
    (folder / "to-secret").symlink_to("secret.sock")
    with HttpOrigin("service", {"switch": switching}, str(folder / "a.sock")) as running:
        yield running


@pytest.fixture(scope="module")
def second(folder: Path) -> Iterator[HttpOrigin]:
    with HttpOrigin("second", host=str(folder / "b.sock")) as running:
        yield running


@pytest.fixture(scope="module")
def secret(folder: Path) -> Iterator[HttpOrigin]:
    """A socket that no rule allows, and some deny."""
    with HttpOrigin("secret", host=str(folder / "secret.sock")) as running:
        yield running
        assert not running.recorder.connections, "nobody has reached it"


def policy(folder: Path, *lines: str, **changes: object) -> Policy:
    names = ("a.sock", "b.sock", "missing.sock", "deaf.sock", "file", "to-secret", "bare/a.sock")
    allowed = [str(folder / name) for name in names if name != "to-secret"]
    sockets = f"allow_unix_sockets = {json.dumps(allowed)}"
    hooks = hook_lines(Hook(API, inject=(Inject(),)))
    return replace(OPEN, lines=(sockets, *hooks, *lines), **changes)  # type: ignore[arg-type]  # real fields


def mac(home: Path, given: Policy, *arguments: str) -> ProxyProcess:
    environment = {SECRET_VARIABLE: CANARY}
    return ProxyProcess(home, given, platform="darwin", arguments=arguments, environment=environment)


@pytest.fixture(scope="module")
def proxy(
    tmp_path_factory: pytest.TempPathFactory, folder: Path, service: HttpOrigin, second: HttpOrigin, secret: HttpOrigin
) -> Iterator[ProxyProcess]:
    with mac(tmp_path_factory.mktemp("mac"), policy(folder)) as running:
        yield running


def ask(path: Path | str, target: str = "http://api/t", *fields: str) -> bytes:
    return get(target, f"x-unix-socket: {path}", *fields)


def check_short(answer: Response, reason: str, code: str) -> None:
    """The short form of a block."""
    assert (answer.status, answer.get("x-proxy-error")) == (403, code), answer
    assert answer.get("content-type") == "application/json"
    expected = {"status": "blocked", "host": "unix-socket", "reason": reason, "request_id": request_id(answer)}
    assert answer.text == json.dumps(expected, separators=(",", ":"))


# -- real clients --------------------------------------------------------------------------------------------------


def curl(command: str, proxy: ProxyProcess, folder: Path, places: dict[str, str]) -> Done:
    """The README's line."""
    need("curl")
    return run(["sh", "-c", recipe(command, proxy, places)], folder)


def test_curl_reaches_a_socket(proxy: ProxyProcess, service: HttpOrigin, tmp_path: Path) -> None:
    places = {"/tmp/example.sock": service.host, "http://example/v1/items": "'http://api/echo?q=1'"}
    done = curl(SOCKET, proxy, tmp_path, places)
    assert done.code == 0, done
    seen = json.loads(done.out)
    assert (seen["method"], seen["target"]) == ("GET", "/echo?q=1")
    fields = {name.lower(): value for name, value in seen["headers"]}
    assert fields["host"] == "api"
    assert not {"x-unix-socket", "proxy-connection"} & fields.keys(), "L06: it goes nowhere"


def test_curl_is_told_why_not(proxy: ProxyProcess, secret: HttpOrigin, tmp_path: Path) -> None:
    done = curl(SOCKET_BLOCKED, proxy, tmp_path, {"/var/run/docker.sock": secret.host})
    shown = block_of(SOCKET_BLOCKED).shown(SOCKET_BLOCKED)
    answer, expected = json.loads(done.out), json.loads(shown)
    assert answer | {"request_id": ""} == expected | {"request_id": ""}


# -- what is sent --------------------------------------------------------------------------------------------------

TARGETS = [
    pytest.param(b"GET http://api/echo?a=1 HTTP/1.1\r\nHost: api\r\n", "/echo?a=1", "api", id="absolute form"),
    pytest.param(b"GET https://api/echo HTTP/1.1\r\nHost: api\r\n", "/echo", "api", id="an https address"),
    pytest.param(b"GET /echo HTTP/1.1\r\nHost: api:81\r\n", "/echo", "api:81", id="origin form"),
    pytest.param(b"GET http://a/echo HTTP/1.1\r\nHost: b\r\n", "/echo", "b", id="two hosts, which nobody looks for"),
    pytest.param(b"GET /echo HTTP/1.1\r\nHost: denied.test\r\n", "/echo", "denied.test", id="a denied host"),
    pytest.param(b"GET /echo HTTP/1.1\r\nHost: not a host\r\n", "/echo", "not a host", id="no host at all"),
    pytest.param(b"GET /echo HTTP/1.1\r\n", "/echo", "localhost", id="nothing"),
    pytest.param(b"GET /echo HTTP/1.0\r\n", "/echo", "localhost", id="nothing, in HTTP/1.0"),
    pytest.param(b"GET /echo/../x/%2e%2e?# HTTP/1.1\r\n", None, "", id="a fragment is no target"),
    pytest.param(b"GET echo HTTP/1.1\r\n", None, "", id="no path"),
    pytest.param(b"GET ftp://api/echo HTTP/1.1\r\n", None, "", id="another scheme"),
]  # fmt: skip


@pytest.mark.parametrize(("head", "target", "host"), TARGETS)
def test_only_the_path_of_a_target_counts(
    head: bytes, target: str | None, host: str, proxy: ProxyProcess, service: HttpOrigin
) -> None:
    answer = exchange(proxy.http, head + f"x-unix-socket: {service.host}\r\n\r\n".encode())
    if target is None:
        assert (answer.status, answer.text) == (400, "invalid request target")
        return
    seen = answer.json()
    assert (seen["target"], [value for name, value in seen["headers"] if name.lower() == "host"]) == (target, [host])


def test_no_name_is_looked_up_and_no_address_dialled(proxy: ProxyProcess, service: HttpOrigin) -> None:
    lookups, dials = len(proxy.world.lookups()), len(proxy.world.dials())
    assert exchange(proxy.http, ask(service.host, "http://allowed.test/t")).text == "ok from service\n"
    assert (len(proxy.world.lookups()), len(proxy.world.dials())) == (lookups, dials)
    assert set(proxy.world.socket_dials()) <= {service.host, str(Path(service.host).with_name("b.sock"))}


def test_a_hook_has_no_part_in_it(proxy: ProxyProcess, service: HttpOrigin) -> None:
    answer = exchange(proxy.http, ask(service.host, f"http://{API}/echo", "authorization: mine"))
    assert ["authorization", "mine"] in answer.json()["headers"]
    assert CANARY not in answer.text


def test_an_upgrade_is_not_passed_on(proxy: ProxyProcess, service: HttpOrigin) -> None:
    fields = ("connection: upgrade, x-mine", "upgrade: tcp", "x-mine: 1", "te: trailers", "proxy-authorization: x")
    seen = exchange(proxy.http, ask(service.host, "http://api/echo", *fields)).json()
    assert [name.lower() for name, _ in seen["headers"]] == ["host"]


# -- answers in the order of the table ------------------------------------------------------------------------------


def test_every_decision_is_an_event_without_the_path(proxy: ProxyProcess, service: HttpOrigin, folder: Path) -> None:
    for path, decision, reason in (("a.sock", "allow", "allow"), ("secret.sock", "deny", "not_allowed")):
        fields = (f"x-unix-socket: {folder / path}",)
        before = len(proxy.audit_events())
        exchange(proxy.http, get("http://api/t", *fields))
        event = proxy.audit_events(before + 1)[-1]
        assert (event["network.policy.decision"], event["network.policy.reason"]) == (decision, reason)
        assert (event["network.policy.scope"], event["network.policy.source"]) == ("non_domain", "proxy_state")
        assert (event["server.address"], event["server.port"]) == ("unix-socket", 0)
        assert (event["network.transport.protocol"], event["http.request.method"]) == ("http", "GET")
        assert event["network.policy.override"] is False
    assert str(folder) not in proxy.audit_log.read_text()
    proxy.until_printed("unix socket blocked (client=127.0.0.1:")
    proxy.until_printed(f"path={folder}/secret.sock")


REFUSED = ["secret.sock", "to-secret", "other/../a.sock", "a.sock%00", "a.sock/..", "", "a.sock/x", "not-there.sock"]


@pytest.mark.parametrize("name", REFUSED)
def test_l05_a_path_that_is_not_allowed(name: str, proxy: ProxyProcess, folder: Path) -> None:
    check_short(exchange(proxy.http, ask(f"{folder}/{name}")), "not_allowed", "blocked-by-allowlist")


@pytest.mark.parametrize(
    "path", ["a.sock", "", "~/a.sock", "/" + "a" * 5000, "/proc/self/fd/0"], ids=lambda path: path[:9]
)
def test_l05_what_is_no_path_or_another(path: str, proxy: ProxyProcess) -> None:
    check_short(exchange(proxy.http, ask(path)), "not_allowed", "blocked-by-allowlist")


def test_l05_two_fields_are_none(proxy: ProxyProcess, service: HttpOrigin) -> None:
    mark = service.recorder.mark()
    answer = exchange(proxy.http, ask(service.host, "http://api/t", f"X-Unix-Socket: {service.host}"))
    assert (answer.status, answer.text) == (400, "invalid x-unix-socket header")
    assert not service.recorder.since(mark)


def test_a_link_to_an_allowed_socket_is_allowed(proxy: ProxyProcess, service: HttpOrigin, folder: Path) -> None:
    assert exchange(proxy.http, ask(folder / "link")).text == "ok from service\n"
    assert proxy.world.socket_dials()[-1] == service.host, "the file itself is dialled, not the link"


@pytest.mark.parametrize("door", INNER_DOORS, ids=lambda door: door.name)
def test_l05_inside_a_tunnel_it_is_refused(
    door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin, folder: Path
) -> None:
    mark = tls_origin.recorder.mark()
    proxy = inspected.get(inspecting(Hook(API)))
    inner = Inner(fields=((b"X-Unix-Socket", str(folder / "a.sock").encode()),))
    outcome = door.send(proxy, f"{API}:{tls_origin.port}".encode(), inner)
    assert (outcome.answer.status, outcome.answer.text) == (400, "invalid x-unix-socket header")
    assert not any(one.heads for one in tls_origin.recorder.since(mark))


def test_l06_on_a_connect_it_means_nothing(proxy: ProxyProcess, service: HttpOrigin, origin: HttpOrigin) -> None:
    mark = service.recorder.mark()
    with Client(proxy.http) as client:
        head = connect(f"allowed.test:{origin.port}", f"x-unix-socket: {service.host}")
        assert client.ask(head, "CONNECT").status == 200
        assert client.ask(b"GET /t HTTP/1.1\r\nHost: h\r\n\r\n").text == "ok from shared\n"
    assert not service.recorder.since(mark)


# -- failures -------------------------------------------------------------------------------------------------------


def test_nobody_listens(proxy: ProxyProcess, folder: Path) -> None:
    (folder / "file").write_text("no socket")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(folder / "deaf.sock"))
        for name in ("missing.sock", "deaf.sock", "file"):
            answer = exchange(proxy.http, ask(folder / name))
            assert (answer.status, answer.text) == (502, FAILED), name
            assert answer.get("x-proxy-error") is None
    proxy.until_printed("upstream request failed: upstream failure: connection refused (client=127.0.0.1:")


@pytest.mark.parametrize("path", [*(f"raw/{name}" for name in RAW_ANSWERS), "raw/endless-head", "switch"])
def test_a_service_that_answers_badly(path: str, proxy: ProxyProcess, service: HttpOrigin) -> None:
    answer = exchange(proxy.http, ask(service.host, f"http://api/{path}"))
    assert (answer.status, answer.text) == (502, FAILED)
    assert exchange(proxy.http, ask(service.host)).status == 200


# -- bodies and connections -----------------------------------------------------------------------------------------


def test_a_connection_is_kept_and_sockets_are_not_mixed_up(
    proxy: ProxyProcess, service: HttpOrigin, second: HttpOrigin, origin: HttpOrigin
) -> None:
    marks = service.recorder.mark(), second.recorder.mark()
    with Client(proxy.http) as client:
        for _ in range(3):
            assert client.ask(ask(service.host)).text == "ok from service\n"
            assert client.ask(ask(second.host)).text == "ok from second\n"
            check_short(client.ask(ask("/no.sock")), "not_allowed", "blocked-by-allowlist")
            assert client.ask(get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"
    for one, mark in zip((service, second), marks, strict=True):
        (connection,) = one.recorder.since(mark)
        assert len(connection.heads) == 3, "the connection to the socket is kept as well"


def test_pipelined_requests_are_answered_in_order(proxy: ProxyProcess, service: HttpOrigin, second: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.send((ask(service.host) + ask("/no.sock") + ask(second.host)) * 2)
        for _ in range(2):
            assert client.read().text == "ok from service\n"
            assert client.read().status == 403
            assert client.read().text == "ok from second\n"


def test_events_arrive_one_by_one(proxy: ProxyProcess, service: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.send(ask(service.host, "http://api/sse"))
        for number in range(3):
            service.events.put(b"event-%d" % number)
            assert client.stream.until(b"event-%d\n\n" % number), "the next one is not sent before this one is here"
        service.events.put(None)
        assert client.stream.until(b"0\r\n\r\n")


def test_an_upload_passes_piece_by_piece(proxy: ProxyProcess, service: HttpOrigin) -> None:
    mark = service.recorder.mark()
    with Client(proxy.http) as client:
        head = ask(service.host, "http://api/echo", "Transfer-Encoding: chunked").replace(b"GET", b"POST", 1)
        client.send(head)
        for number in range(3):
            client.send(b"7\r\npiece-%d\r\n" % number)
            service.recorder.wait_for(b"piece-%d" % number, mark)
        client.send(b"0\r\n\r\n")
        assert client.read().json()["length"] == 21


@needs_proc
def test_large_bodies_pass_in_constant_memory(proxy: ProxyProcess, service: HttpOrigin) -> None:
    with Client(proxy.http, timeout=60) as client, Memory(proxy) as memory:
        client.send(ask(service.host, f"http://api/big?n={SIZE}"))
        assert b"200 OK" in client.stream.until(b"\r\n\r\n")
        for _ in range(4):
            assert client.stream.skip(SIZE // 4) == SIZE // 4
            memory.look()
        client.send(ask(service.host, "http://api/upload", f"Content-Length: {SIZE}").replace(b"GET", b"POST", 1))
        for number in range(SIZE // len(CHUNK)):
            client.send(CHUNK)
            if number % 256 == 0:
                memory.look()
        assert client.read().json() == {"received": SIZE}
    assert memory.growth < GROWTH, f"{memory.growth >> 20} MiB more"


def test_a_refused_upload_is_answered_before_its_body(proxy: ProxyProcess, secret: HttpOrigin) -> None:
    head = ask(secret.host, "http://api/upload", "Content-Length: 1000000000").replace(b"GET", b"POST", 1)
    with Client(proxy.http) as client:
        check_short(client.ask(head), "not_allowed", "blocked-by-allowlist")


def test_a_client_is_asked_for_its_body_once_it_may_send_it(proxy: ProxyProcess, service: HttpOrigin) -> None:
    fields = ("Content-Length: 5", "Expect: 100-continue")
    with Client(proxy.http) as client:
        client.send(ask(service.host, "http://api/echo", *fields).replace(b"GET", b"POST", 1))
        assert client.stream.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"hello")
        assert client.read().json()["length"] == 5


# -- other policies -------------------------------------------------------------------------------------------------


def test_limited_mode_reads_only(tmp_path: Path, folder: Path, service: HttpOrigin) -> None:
    with mac(tmp_path, policy(folder, mode="limited")) as proxy:
        assert exchange(proxy.http, ask(service.host)).text == "ok from service\n"
        for head in (
            ask(service.host).replace(b"GET", b"POST", 1),
            ask(service.host, "http://api/t", "Content-Length: 1") + b"x",
            ask("/no.sock").replace(b"GET", b"DELETE", 1),
        ):
            check_short(exchange(proxy.http, head), "method_not_allowed", "blocked-by-method-policy")
        events = proxy.audit_events(4)
        assert {event["network.policy.source"] for event in events[1:]} == {"mode_guard"}


def test_deny_wins_over_everything(tmp_path: Path, folder: Path, service: HttpOrigin, secret: HttpOrigin) -> None:
    denied = json.dumps(str(folder / "to-secret"))
    lines = ("dangerously_allow_all_unix_sockets = true", f'unix_sockets = {{ {denied} = "deny" }}')
    with mac(tmp_path, policy(folder, *lines)) as proxy:
        assert exchange(proxy.http, ask(service.host)).status == 200
        for path in (secret.host, folder / "to-secret", f"{folder}/./secret.sock"):
            check_short(exchange(proxy.http, ask(path)), "not_allowed", "blocked-by-allowlist")
        assert exchange(proxy.http, ask(folder / "nothing.sock")).status == 502, "allowed, and not there"


def test_no_rule_opens_the_socket_of_the_proxy_itself(folder: Path) -> None:
    with mac(folder / "home", policy(folder, "dangerously_allow_all_unix_sockets = true")) as proxy:
        (control,) = (proxy.home / "proxy").glob("control-*.sock")
        check_short(exchange(proxy.http, ask(control)), "not_allowed", "blocked-by-allowlist")
        assert not proxy.world.socket_dials()


def status_of(answer: Response | None) -> int:
    return answer.status if answer else 0


def test_a_reload_cuts_what_it_no_longer_allows(tmp_path: Path, folder: Path, service: HttpOrigin) -> None:
    with mac(tmp_path, policy(folder)) as proxy, Client(proxy.http) as client:
        client.send(ask(service.host, "http://api/sse"))
        service.events.put(b"first")
        client.stream.until(b"first\n\n\r\n")
        proxy.reload(policy(folder, f'unix_sockets = {{ {json.dumps(str(folder / "link"))} = "deny" }}').toml())
        assert client.ended(), "denied under another name"
        service.events.put(None)
        proxy.until_printed("config entry added to denied unix sockets")
        check_short(exchange(proxy.http, ask(service.host)), "not_allowed", "blocked-by-allowlist")
        proxy.reload(policy(folder, enabled=False).toml())
        proxy.until(lambda: status_of(attempt(proxy.http, ask(service.host))) == 503, "switched off")
        proxy.audit_events(1, lambda event: event["network.policy.reason"] == "proxy_disabled")


@pytest.mark.parametrize("url", ["http://0.0.0.0:0", "http://127.0.0.2:0", "http://[::1]:0"])
def test_b17_with_sockets_both_listeners_stay_on_loopback(url: str, tmp_path: Path, folder: Path) -> None:
    """Whatever the platform: the configuration may be shared between machines."""
    lines = (f'proxy_url = "{url}"', f'socks_url = "{url}"', "dangerously_allow_non_loopback_proxy = true")
    with ProxyProcess(tmp_path, policy(folder, *lines), environment={SECRET_VARIABLE: CANARY}) as proxy:
        assert {address for address, _ in proxy.world.binds()} == {"127.0.0.1"}
        assert proxy.http.startswith("127.0.0.1:")
        assert proxy.socks.startswith("127.0.0.1:")
        assert proxy.output.count("because unix sockets are configured") == 2


def test_mitmweb_shows_where_a_request_went(tmp_path: Path, folder: Path, service: HttpOrigin) -> None:
    with mac(tmp_path, policy(folder), "--web", "--web-port", str(free_port())) as proxy:
        web = WebReader(proxy)
        assert exchange(proxy.http, ask(folder / "link")).status == 200
        check_short(exchange(proxy.http, ask("/no.sock")), "not_allowed", "blocked-by-allowlist")
        passed, blocked = web.flows(2)
        assert passed["comment"].startswith(f"unix socket {service.host} (id ")
        assert (passed["request"]["path"], passed["request"]["pretty_host"]) == ("/t", "api")
        assert blocked["marked"]
        assert blocked["comment"].startswith("not_allowed: no entry of allow_unix_sockets is this file")


# -- the platform this runs on --------------------------------------------------------------------------------------


@pytest.mark.skipif("sys.platform == 'darwin'", reason="macOS has unix sockets")
def test_other_platforms_answer_501(tmp_path: Path, folder: Path, service: HttpOrigin) -> None:
    mark = service.recorder.mark()
    with ProxyProcess(tmp_path, policy(folder), environment={SECRET_VARIABLE: CANARY}) as proxy:
        answer = exchange(proxy.http, ask(service.host))
        assert (answer.status, answer.text) == (501, "unix sockets unsupported")
        assert (answer.get("content-type"), answer.get("x-proxy-error")) == ("text/plain", None)
        (event,) = proxy.events_of(request_id(answer))
        assert (event["network.policy.source"], event["network.policy.reason"]) == (
            "proxy_state",
            "unix_socket_unsupported",
        )
        assert not proxy.world.socket_dials()
    assert not service.recorder.since(mark)
