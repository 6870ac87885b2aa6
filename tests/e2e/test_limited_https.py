"""Limited mode over HTTPS: programs may read, whatever the door, and nothing they do may write (spec A4.2, B5)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kit.answers import BLOCKS, check_json_block
from tests.kit.fleet import Fleet
from tests.kit.hooks import API, CANARY, RAW, READ_ONLY
from tests.kit.inner import enter
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import exchange, request
from tests.kit.secure_clients import curl, httpx_client
from tests.kit.websocket import upgrade

METHOD, HOOK = "method_not_allowed", "mitm_hook_denied"


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(READ_ONLY, fast_path)


@dataclass(frozen=True, slots=True)
class Row:
    """What curl does with a path of a host, and the reason when it is blocked."""

    id: str
    options: tuple[str, ...]
    host: str = RAW
    path: str = "/repos/x"
    blocked: str = ""


ROWS = [
    Row("GET", ()),
    Row("HEAD", ("-I",)),
    Row("OPTIONS", ("-X", "OPTIONS")),
    Row("POST", ("-d", "x=1"), blocked=METHOD),
    Row("an empty POST", ("-X", "POST"), blocked=METHOD),
    Row("PUT", ("-X", "PUT", "-d", "x"), blocked=METHOD),
    Row("DELETE", ("-X", "DELETE"), blocked=METHOD),
    Row("PATCH", ("-X", "PATCH", "-d", "x"), blocked=METHOD),
    Row("an upload", ("-T", "client.bin"), blocked=METHOD),
    Row("GET in small letters", ("-X", "get"), blocked=METHOD),
    Row("GET with a body", ("-X", "GET", "-d", "x=1"), blocked=METHOD),
    Row("OPTIONS with a body", ("-X", "OPTIONS", "-d", "x=1"), blocked=METHOD),
    Row("GET on a hook", (), API),
    Row("POST on a hook that lists it", ("-d", "x=1"), API, blocked=METHOD),
    Row("GET past the hooks", (), API, "/evil", HOOK),
    Row("POST past the hooks", ("-d", "x=1"), API, "/evil", HOOK),
]


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
@pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in ROWS])
def test_through_a_tunnel(row: Row, protocol: str, proxy: ProxyProcess, tls_origin: HttpOrigin, tmp_path: Path) -> None:
    (tmp_path / "client.bin").write_bytes(b"x" * 1000)
    mark = tls_origin.recorder.mark()
    done = curl(proxy, tmp_path, protocol, "-i", *row.options, f"https://{row.host}:{tls_origin.port}{row.path}")
    heads = [head for connection in tls_origin.recorder.since(mark) for head in connection.heads]
    if row.blocked:
        assert not heads
        assert BLOCKS[row.blocked][1] in done.out, done
    else:
        assert "x-origin: tls" in done.out, done
        assert (CANARY.encode() in heads[0]) == (row.host == API)


ABSOLUTE = [
    pytest.param("GET", "/repos/x", None, id="GET"),
    pytest.param("OPTIONS", "/repos/x", None, id="OPTIONS"),
    pytest.param("POST", "/repos/x", METHOD, id="POST"),
    pytest.param("DELETE", "/repos/x", METHOD, id="DELETE"),
]


@pytest.mark.parametrize("host", [RAW, "evil.test"])
@pytest.mark.parametrize(("method", "path", "reason"), ABSOLUTE)
def test_https_in_absolute_form(
    host: str, method: str, path: str, reason: str | None, proxy: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    answer = exchange(proxy.http, request(method, f"https://{host}:{tls_origin.port}{path}"), method)
    if reason is None:
        assert (answer.status, answer.get("x-origin")) == (200, "tls")
    else:
        check_json_block(answer, reason, host, tls_origin.port)


def test_absolute_form_on_a_hook_is_clamped_as_well(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    url = f"https://{API}:{tls_origin.port}/repos/x"
    assert exchange(proxy.http, request("GET", url)).status == 200
    check_json_block(exchange(proxy.http, request("POST", url), "POST"), METHOD, API)


def test_a_websocket_is_refused(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    target, mark = f"{RAW}:{tls_origin.port}", tls_origin.recorder.mark()
    with enter(proxy, target) as client:
        answer = upgrade(client, "/ws", target)
    assert (answer.status, answer.text) == (403, BLOCKS[METHOD][1])
    assert not tls_origin.recorder.since(mark)


def test_two_events_tell_of_a_method_that_was_refused(proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    with httpx_client(proxy, http2=False) as client:
        answer = client.post(f"https://{RAW}:{tls_origin.port}/repos/x", content=b"x")
    host, use = proxy.events_of(answer.headers["x-proxy-request-id"], 2)
    assert (host["network.policy.decision"], host["network.policy.scope"]) == ("allow", "domain")
    assert (use["network.policy.reason"], use["network.policy.source"]) == (METHOD, "mode_guard")
    assert use["http.request.method"] == "POST"
