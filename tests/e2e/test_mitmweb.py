"""mitmweb shows every block with its reason and every tunnel as one entry; and it opens no way around the policy."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.kit.answers import BLOCKS, request_id
from tests.kit.mitmweb import Web
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import MitmdumpProcess, ProxyProcess
from tests.kit.raw import Client, attempt, connect, exchange, get, request


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module", params=["serve --web", "mitmweb -s"])
def web(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    home, port = tmp_path_factory.mktemp("web"), free_port()
    proxy: ProxyProcess
    if request.param == "serve --web":
        proxy = ProxyProcess(home, OPEN, arguments=["--web", "--web-port", str(port)])
    else:
        options = ["--set", f"web_port={port}", "--no-web-open-browser"]
        proxy = MitmdumpProcess(home, OPEN, program="mitmweb", arguments=options)
    with proxy:
        proxy.until(lambda: "token=" in proxy.web or "token=" in proxy.output, "mitmweb's address")
        found = re.search(r"http://\S+token=\S+", proxy.web or proxy.output)
        assert found, proxy.output
        url = urlsplit(found[0])
        assert url.port == port
        yield Web(proxy, f"127.0.0.1:{port}", parse_qs(url.query)["token"][0])


@pytest.fixture
def fresh() -> Iterator[HttpOrigin]:
    """An origin of the test's own: its port tells the test's flows from others."""
    with HttpOrigin("fresh") as running:
        yield running


def test_every_block_is_listed_marked_and_explained(web: Web, fresh: HttpOrigin) -> None:
    http = web.proxy.http
    answers = [
        exchange(http, get(f"http://evil.test:{fresh.port}/t")),
        exchange(http, get(f"http://denied.test:{fresh.port}/t")),
        exchange(http, connect(f"evil.test:{fresh.port}"), "CONNECT"),
        exchange(http, connect(f"denied.test:{fresh.port}"), "CONNECT"),
    ]
    assert exchange(http, get(f"http://allowed.test:{fresh.port}/t")).status == 200
    flows = web.wait_for(5, fresh.port)
    assert len(flows) == 5
    marked = [flow for flow in flows if flow["marked"]]
    reasons = ["not_allowed", "denied", "not_allowed", "denied"]
    for answer, reason in zip(answers, reasons, strict=True):
        (flow,) = [flow for flow in marked if request_id(answer) in flow["comment"]]
        assert flow["response"]["status_code"] == 403
        assert reason in flow["comment"]
        assert BLOCKS[reason][0] in flow["comment"]
        assert BLOCKS[reason][0] in dict(flow["response"]["headers"]).get("x-proxy-error", "")
    assert len(marked) == 4
    (passed,) = [flow for flow in flows if not flow["marked"]]
    assert (passed["request"]["host"], passed["response"]["status_code"]) == ("allowed.test", 200)


def test_the_filter_marked_lists_exactly_the_blocks(web: Web, fresh: HttpOrigin) -> None:
    http = web.proxy.http
    exchange(http, get(f"http://evil.test:{fresh.port}/t"))
    exchange(http, connect(f"denied.test:{fresh.port}"), "CONNECT")
    exchange(http, get(f"http://allowed.test:{fresh.port}/t"))
    web.wait_for(3, fresh.port)
    assert web.change("PUT", "/options", {"view_filter": "~marked"}).status == 200
    try:
        flows = web.wait_for(2, fresh.port)
        assert {flow["request"]["host"] for flow in flows} == {"evil.test", "denied.test"}
        assert all(flow["marked"] for flow in web.flows())
    finally:
        assert web.change("PUT", "/options", {"view_filter": ""}).status == 200


def test_a_tunnel_is_one_entry_with_size_and_duration_and_no_content(web: Web, fresh: HttpOrigin) -> None:
    with Client(web.proxy.http) as client:
        assert client.ask(connect(f"allowed.test:{fresh.port}"), "CONNECT").status == 200
        (flow,) = web.wait_for(1, fresh.port)
        assert (flow["request"]["method"], flow["request"]["host"]) == ("CONNECT", "allowed.test")
        assert not flow["marked"]
        sent = request("POST", "http://x/echo/canary", body=b"canary" * 100)
        client.send(sent)
        received = client.read()
        client.finish()
        assert client.ended()
    total = len(received.head.raw) + len(received.body)
    web.proxy.until(lambda: " s, " in web.wait_for(1, fresh.port)[0]["comment"], "the closed tunnel")
    (flow,) = web.wait_for(1, fresh.port)
    assert f"{total:,} bytes down, {len(sent):,} bytes up" in flow["comment"], flow["comment"]
    assert re.search(r"\d+\.\d s", flow["comment"])
    for part in ("request", "response"):
        content = web.call("GET", f"/flows/{flow['id']}/{part}/content.data")
        assert b"canary" not in content.body
    assert "canary" not in json.dumps(web.flows())


def test_an_allowed_request_shows_as_usual(web: Web, fresh: HttpOrigin) -> None:
    exchange(web.proxy.http, request("POST", f"http://allowed.test:{fresh.port}/echo?q=1", body=b"12345"))
    web.proxy.until(lambda: bool(web.wait_for(1, fresh.port)[0].get("response")), "the answer")
    (flow,) = web.wait_for(1, fresh.port)
    assert (flow["request"]["method"], flow["request"]["path"]) == ("POST", "/echo?q=1")
    assert (flow["response"]["status_code"], flow["comment"]) == (200, "")


def test_it_is_for_those_who_have_the_token(web: Web) -> None:
    answer = exchange(web.address, f"GET /flows HTTP/1.1\r\nHost: {web.address}\r\n\r\n".encode())
    assert answer.status == 403, answer


def test_it_is_not_reached_through_the_proxy(web: Web) -> None:
    for host in (web.address, web.address.replace("127.0.0.1", "localhost"), web.address.replace("127.0.0.1", "127.1")):
        for head, method in ((get(f"http://{host}/flows"), "GET"), (connect(host), "CONNECT")):
            answer = exchange(web.proxy.http, head, method)
            assert (answer.status, answer.get("x-proxy-error")) == (403, "blocked-by-allowlist"), answer


def test_a_replay_does_not_get_past_the_policy(web: Web, fresh: HttpOrigin) -> None:
    exchange(web.proxy.http, get(f"http://evil.test:{fresh.port}/t"))
    (flow,) = web.wait_for(1, fresh.port)
    web.change("POST", f"/flows/{flow['id']}/replay")
    exchange(web.proxy.http, get(f"http://allowed.test:{fresh.port}/t"))
    assert all(b"evil.test" not in head for head in fresh.recorder.heads)
    assert b"evil.test" not in fresh.recorder.received


def test_a_flow_edited_to_another_host_is_judged_anew(web: Web, fresh: HttpOrigin) -> None:
    exchange(web.proxy.http, get(f"http://allowed.test:{fresh.port}/t"))
    (flow,) = web.wait_for(1, fresh.port)
    mark = len(fresh.recorder.heads)
    web.change("PUT", f"/flows/{flow['id']}", {"request": {"host": "denied.test"}})
    web.change("POST", f"/flows/{flow['id']}/replay")
    exchange(web.proxy.http, get(f"http://allowed.test:{fresh.port}/chunked"))
    assert [b"/chunked" in head for head in fresh.recorder.heads[mark:]] == [True], "only the request of our own"


OPENINGS: list[dict[str, object]] = [
    {"scripts": []},
    {"ignore_hosts": [".*"]},
    {"map_remote": ["|//allowed.test|//denied.test"]},
    {"mode": ["regular", "socks5@127.0.0.1:0"]},
    {"ssl_insecure": True},
]


@pytest.mark.parametrize("change", OPENINGS, ids=json.dumps)
def test_no_option_opens_the_policy(change: dict[str, object], tmp_path: Path, origin: HttpOrigin) -> None:
    port = free_port()
    options = ["--set", f"web_port={port}", "--no-web-open-browser"]
    with MitmdumpProcess(tmp_path, OPEN, program="mitmweb", arguments=options) as proxy:
        proxy.until(lambda: "token=" in proxy.output, "mitmweb's address")
        found = re.search(r"token=(\S+)", proxy.output)
        assert found
        web = Web(proxy, f"127.0.0.1:{port}", found[1])
        web.change("PUT", "/options", change)
        mark = origin.recorder.mark()
        for host in ("denied.test", "evil.test"):
            answer = attempt(proxy.http, get(f"http://{host}:{origin.port}/t"))
            assert answer is None or answer.status >= 400, answer
        assert not origin.recorder.since(mark)
        if "map_remote" in change:
            attempt(proxy.http, get(f"http://allowed.test:{origin.port}/t"))
            assert all(b"denied.test" not in one for one in origin.recorder.heads)


def test_its_default_port_is_not_the_one_of_socks(tmp_path: Path) -> None:
    with MitmdumpProcess(tmp_path, OPEN, program="mitmweb", arguments=["--no-web-open-browser"]) as proxy:
        proxy.until(lambda: ":8083" in proxy.output or 8083 in [port for _, port in proxy.world.binds()], "port 8083")
        assert 8081 not in [port for _, port in proxy.world.binds()]
