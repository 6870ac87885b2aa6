"""What belongs to one connection goes no further; everything else passes unchanged (spec B4.8)."""

from __future__ import annotations

import pytest

from tests.kit.answers import check_json_block
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, get, request


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def echoed(proxy: ProxyProcess, origin: HttpOrigin, *fields: str, body: bytes = b"") -> list[tuple[str, str]]:
    with Client(proxy.http) as client:
        url = f"http://allowed.test:{origin.port}/echo"
        answer = client.ask(request("POST" if body else "GET", url, *fields, body=body))
        assert answer.status == 200, answer
        return [(name, value) for name, value in answer.json()["headers"]]


GONE = [
    pytest.param(["Connection: X-Named", "X-Named: 1"], "x-named", id="what Connection names"),
    pytest.param(["Connection: keep-alive, x-named", "X-NAMED: 1"], "x-named", id="what Connection names in a list"),
    pytest.param(
        ["Connection: a", "Connection: X-Named", "X-Named: 1"], "x-named", id="what a second Connection names"
    ),
    pytest.param(["Keep-Alive: timeout=5"], "keep-alive", id="Keep-Alive"),
    pytest.param(["Proxy-Connection: keep-alive"], "proxy-connection", id="Proxy-Connection"),
    pytest.param(["Proxy-Authorization: Basic Y2FuYXJ5"], "proxy-authorization", id="Proxy-Authorization"),
    pytest.param(["proxy-AUTHORIZATION: Basic Y2FuYXJ5"], "proxy-authorization", id="Proxy-Authorization in any case"),
    pytest.param(["TE: trailers"], "te", id="TE"),
    pytest.param(["Trailer: X-Sum"], "trailer", id="Trailer"),
    pytest.param(["Upgrade: foo"], "upgrade", id="Upgrade without Connection"),
]


@pytest.mark.parametrize(("fields", "gone"), GONE)
def test_hop_by_hop_request_fields_are_gone(
    fields: list[str], gone: str, proxy: ProxyProcess, origin: HttpOrigin
) -> None:
    names = [name.lower() for name, _ in echoed(proxy, origin, *fields)]
    assert gone not in names
    assert "canary" not in proxy.output


KEPT = [
    "X-Forwarded-For: 1.2.3.4",
    "X-Forwarded-Host: evil.test",
    "Forwarded: host=evil.test",
    "Via: 1.0 somebody",
    "Authorization: Bearer own",
    "Cookie: a=b; c=d",
    "Accept-Encoding: zstd, gzip",
    "X-Empty:",
    "X-Bytes: caf\u00e9",
]


def test_everything_else_is_kept_in_order(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    seen = echoed(proxy, origin, *KEPT, "X-Two: 1", "X-Two: 2")
    names = [name for name, _ in seen]
    expected = [field.partition(":")[0] for field in KEPT] + ["X-Two", "X-Two"]
    assert [name for name in names if name in expected] == expected, "order, spelling and repetition"
    assert dict(seen)["X-Forwarded-Host"] == "evil.test"
    assert [value for name, value in seen if name == "X-Two"] == ["1", "2"]


def test_the_proxy_adds_nothing(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        client.ask(get(f"http://allowed.test:{origin.port}/t", "X-Only: 1"))
    names = {line.partition(b":")[0].lower() for line in origin.recorder.heads[-1].split(b"\r\n")[1:] if line}
    assert names <= {b"host", b"x-only", b"connection"}, names


def test_hop_by_hop_response_fields_are_gone(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        answer = client.ask(get(f"http://allowed.test:{origin.port}/hops"))
        assert answer.body == b"hops\n"
        names = {name.lower() for name, _ in answer.head.fields}
        assert names & {"x-private", "keep-alive", "proxy-authenticate", "upgrade"} == set()
        assert answer.get("x-kept") == "yes"
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200


def test_a_redirect_passes_untouched(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        answer = client.ask(get(f"http://allowed.test:{origin.port}/redirect?to=http://evil.test/"))
        assert (answer.status, answer.get("location")) == (302, "http://evil.test/")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "post", "X-OWN"])
def test_methods_pass_as_they_are_spelled(method: str, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        seen = client.ask(request(method, f"http://allowed.test:{origin.port}/echo")).json()
        assert seen["method"] == method


def test_head_has_no_body(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        for host, status in (("allowed.test", 200), ("denied.test", 403), ("allowed.test", 200)):
            answer = client.ask(request("HEAD", f"http://{host}:{origin.port}/t"), "HEAD")
            assert answer.status == status


def test_a_lower_case_connect_is_an_ordinary_method(
    proxy: ProxyProcess, fleet: Fleet, fast_path: bool, origin: HttpOrigin
) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        check_json_block(client.ask(request("connect", f"http://denied.test:{origin.port}/")), "denied")
    with Client(fleet.get(LIMITED, fast_path).http) as client:
        url = f"http://allowed.test:{origin.port}/"
        check_json_block(client.ask(request("connect", url)), "method_not_allowed")
    assert not origin.recorder.since(mark)


def test_trailers_of_a_request_do_not_break_it(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    head = f"POST http://allowed.test:{origin.port}/echo HTTP/1.1\r\nHost: allowed.test:{origin.port}\r\n"
    body = b"5\r\nhello\r\n0\r\nHost: evil.test\r\nAuthorization: Bearer canary\r\nX-Sum: 1\r\n\r\n"
    with Client(proxy.http) as client:
        seen = client.ask(head.encode() + b"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + body).json()
        assert seen["length"] == 5
        names = {name.lower() for name, _ in seen["headers"] + seen["trailers"]}
        assert "authorization" not in names
        assert [value for name, value in seen["headers"] if name.lower() == "host"] == [f"allowed.test:{origin.port}"]
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200, "the connection goes on"


def test_trailers_of_an_answer_do_not_break_it(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        answer = client.ask(get(f"http://allowed.test:{origin.port}/trailers"))
        assert (answer.status, answer.body) == (200, b"with trailers")
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).status == 200, "the connection goes on"


@pytest.mark.parametrize(
    "value", ["/var/run/docker.sock", "relative.sock", "/tmp/../var/run/x.sock", "/tmp/a%00b"], ids=repr
)
def test_l05_unix_sockets_are_not_for_this_platform(value: str, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        answer = client.ask(get(f"http://allowed.test:{origin.port}/t", f"x-unix-socket: {value}"))
        assert answer.status == 501, answer
        assert answer.text == "unix sockets unsupported"
    assert not origin.recorder.since(mark), "the field never goes upstream"


def test_l05_two_unix_socket_fields(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    mark = origin.recorder.mark()
    with Client(proxy.http) as client:
        url = f"http://allowed.test:{origin.port}/t"
        answer = client.ask(get(url, "x-unix-socket: /tmp/a", "X-Unix-Socket: /tmp/b"))
        assert answer.status in (400, 501), answer
    assert not origin.recorder.since(mark)
