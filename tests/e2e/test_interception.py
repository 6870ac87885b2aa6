"""HTTPS that is read: real clients reach what a hook allows, with a secret they never see, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.kit.answers import BLOCKS, check_json_block
from tests.kit.fleet import Fleet
from tests.kit.h2_origin import Http2Origin
from tests.kit.hooks import API, CANARY, GITHUB_READ, OTHER, RAW
from tests.kit.origins import HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import exchange, get, request
from tests.kit.secure_clients import curl, httpx_client, node, openssl_client, requests_session
from tests.kit.tls import TestAuthority

GOOD = "/repos/openai/x/issues?state=open"
VERSION = {"x-github-api-version": "2022-11-28"}
DENIED = BLOCKS["mitm_hook_denied"][1]
TOKEN = f"Bearer {CANARY}"
PROTOCOLS = pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])


@pytest.fixture
def proxy(inspected: Fleet, fast_path: bool) -> ProxyProcess:
    return inspected.get(GITHUB_READ, fast_path)


@pytest.fixture
def at(tls_origin: HttpOrigin) -> str:
    return f"{API}:{tls_origin.port}"


def headers_of(echoed: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in echoed["headers"]}


def test_the_certificate_is_strictly_valid_and_for_the_target(proxy: ProxyProcess, at: str, tmp_path: Path) -> None:
    done = openssl_client(proxy, tmp_path, at, API, "-x509_strict", "-verify_hostname", API)
    assert "Verification: OK" in done.out, done
    assert f"Verified peername: {API}" in done.out


def test_another_name_in_the_handshake_gets_no_certificate(proxy: ProxyProcess, at: str, tmp_path: Path) -> None:
    done = openssl_client(proxy, tmp_path, at, "evil.test")
    assert done.code != 0
    assert "no peer certificate available" in done.out, done


@PROTOCOLS
def test_curl_gets_through_with_the_secret(protocol: str, proxy: ProxyProcess, at: str, tmp_path: Path) -> None:
    options = [protocol, "-d", "title=x", "-H", "X-GitHub-Api-Version: 2022-11-28", "-H", "Authorization: mine"]
    done = curl(proxy, tmp_path, *options, "-w", "\n%{http_version}", f"https://{at}{GOOD}")
    echoed, _, version = done.out.rpartition("\n")
    seen = json.loads(echoed)
    assert (seen["method"], seen["target"], seen["length"]) == ("POST", GOOD, 7)
    assert [value for name, value in seen["headers"] if name.lower() == "authorization"] == [TOKEN]
    assert version == ("2" if protocol == "--http2" else "1.1")


HEADER = ("-H", "X-GitHub-Api-Version: 2022-11-28")
MISSES = [
    pytest.param("/repos/openai/x?state=open", ("-X", "PUT", *HEADER), id="another method"),
    pytest.param("/repos/openai/x?state=open", HEADER, id="curl's own method"),
    pytest.param("/repos/openai-evil/x?state=open", ("-X", "POST", *HEADER), id="another path"),
    pytest.param("/repos/OPENAI/x?state=open", ("-X", "POST", *HEADER), id="a path in another case"),
    pytest.param("/repos/openai/x", ("-X", "POST", *HEADER), id="no query"),
    pytest.param("/repos/openai/x?state=all", ("-X", "POST", *HEADER), id="another value in the query"),
    pytest.param("/repos/openai/x?state=open&state=all", ("-X", "POST", *HEADER), id="a second value in the query"),
    pytest.param("/repos/openai/x?state=open", ("-X", "POST"), id="no header"),
    pytest.param(
        "/repos/openai/x?state=open", ("-X", "POST", "-H", "X-GitHub-Api-Version: 1999"), id="another header value"
    ),
    pytest.param(
        "/repos/openai/x?state=open",
        ("-X", "POST", *HEADER, "-H", "X-GitHub-Api-Version: 1999"),
        id="a second header with another value",
    ),
    pytest.param("/repos/openai/../evil?state=open", ("-X", "POST", *HEADER), id="up and out"),
    pytest.param("/repos/openai/%2e%2e/evil?state=open", ("-X", "POST", *HEADER), id="up and out, escaped"),
    pytest.param("/repos/openai/..%2fevil?state=open", ("-X", "POST", *HEADER), id="an escaped slash"),
    pytest.param("/repos/openai/..%5cevil?state=open", ("-X", "POST", *HEADER), id="an escaped backslash"),
    pytest.param("/repos/openai/%252e%252e/evil?state=open", ("-X", "POST", *HEADER), id="escaped twice"),
    pytest.param("/repos/openai/..;/evil?state=open", ("-X", "POST", *HEADER), id="dots with a parameter"),
]


@PROTOCOLS
@pytest.mark.parametrize(("path", "options"), MISSES)
def test_curl_is_told_what_misses_a_criterion(
    protocol: str,
    path: str,
    options: tuple[str, ...],
    inspected: Fleet,
    at: str,
    tls_origin: HttpOrigin,
    tmp_path: Path,
) -> None:
    proxy, mark = inspected.get(GITHUB_READ), tls_origin.recorder.mark()
    done = curl(proxy, tmp_path, protocol, "--path-as-is", "-i", *options, f"https://{at}{path}")
    assert DENIED in done.out, done
    assert "x-proxy-error: blocked-by-mitm-hook" in done.out
    assert "x-proxy-request-id: " in done.out
    assert not tls_origin.recorder.since(mark)


@PROTOCOLS
def test_another_host_inside_is_a_mismatch(
    protocol: str, proxy: ProxyProcess, at: str, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    mark = tls_origin.recorder.mark()
    done = curl(proxy, tmp_path, protocol, "-X", "POST", *HEADER, "-H", "Host: evil.test", f"https://{at}{GOOD}")
    assert done.out == "host mismatch", done
    assert not tls_origin.recorder.since(mark)


def test_requests(proxy: ProxyProcess, at: str) -> None:
    with requests_session(proxy) as session:
        seen = session.post(f"https://{at}{GOOD}", json={"a": 1}, headers=VERSION, auth=("me", "mine")).json()
        assert headers_of(seen)["authorization"] == TOKEN
        blocked = session.post(f"https://{at}/evil", headers=VERSION)
        assert (blocked.status_code, blocked.text) == (403, DENIED)
        assert blocked.reason == "Blocked by network policy (blocked-by-mitm-hook)"
        assert session.post(f"https://{at}{GOOD}", headers=VERSION).status_code == 200, "the session goes on"


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_httpx(http2: bool, proxy: ProxyProcess, at: str) -> None:
    with httpx_client(proxy, http2) as client:
        seen = client.post(f"https://{at}{GOOD}", content=b"x" * 100_000, headers=VERSION)
        assert seen.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert (headers_of(seen.json())["authorization"], seen.json()["length"]) == (TOKEN, 100_000)
        blocked = client.get(f"https://{at}{GOOD}", headers=VERSION)
        assert (blocked.status_code, blocked.text) == (403, DENIED)
        assert client.post(f"https://{at}{GOOD}", headers=VERSION).status_code == 200, "the connection goes on"


@pytest.mark.parametrize("version", ["http/1.1", "h2"])
def test_node(version: str, proxy: ProxyProcess, at: str, tmp_path: Path) -> None:
    seen = node(proxy, tmp_path, f"https://{at}{GOOD}", "POST", version, VERSION)
    assert seen["status"] == 200, seen
    assert headers_of(json.loads(seen["body"]))["authorization"] == TOKEN
    assert node(proxy, tmp_path, f"https://{at}{GOOD}", "GET", version, VERSION) == {"status": 403, "body": DENIED}


VERSIONS = [
    pytest.param("--http1.1", ("http/1.1",), id="HTTP/1.1 and HTTP/1.1"),
    pytest.param("--http2", ("http/1.1",), id="HTTP/2 and HTTP/1.1"),
    pytest.param("--http2", ("h2",), id="HTTP/2 and HTTP/2"),
    pytest.param("--http2", ("h2", "http/1.1"), id="HTTP/2 and either"),
]


@pytest.mark.parametrize(("client", "origin"), VERSIONS)
def test_the_versions_of_client_and_origin_may_differ(
    client: str, origin: tuple[str, ...], inspected: Fleet, authority: TestAuthority, tmp_path: Path
) -> None:
    context = authority.server_context(OTHER, alpn=origin)
    with Http2Origin(context) if "h2" in origin else HttpOrigin("h1", tls=context) as server:
        done = curl(inspected.get(GITHUB_READ), tmp_path, client, f"https://{OTHER}:{server.port}/echo")
    assert done.out.startswith("{"), done
    assert dict(json.loads(done.out)["headers"])["authorization"] == TOKEN


def test_an_origin_of_http2_alone_has_nothing_for_a_client_of_http1_alone(
    inspected: Fleet, authority: TestAuthority, tmp_path: Path
) -> None:
    """The origin is offered what the client speaks, so that the client's WebSockets keep working."""
    with Http2Origin(authority.server_context(OTHER, alpn=("h2",))) as server:
        url = f"https://{OTHER}:{server.port}/echo"
        done = curl(inspected.get(GITHUB_READ), tmp_path, "--http1.1", "--write-out", "%{http_code}", url)
    assert "upstream failure: " in done.out
    assert done.out.endswith("502")


def test_https_in_absolute_form_obeys_the_hooks(proxy: ProxyProcess, at: str, tls_origin: HttpOrigin) -> None:
    mark = tls_origin.recorder.mark()
    fields = ("X-GitHub-Api-Version: 2022-11-28", "Authorization: mine")
    good = exchange(proxy.http, request("POST", f"https://{at}{GOOD}", *fields, "Content-Length: 0"))
    assert [value for name, value in good.json()["headers"] if name.lower() == "authorization"] == [TOKEN]
    blocked = exchange(proxy.http, get(f"https://{at}{GOOD}", *fields))
    check_json_block(blocked, "mitm_hook_denied", API, tls_origin.port)
    assert len(tls_origin.recorder.since(mark)) == 1


def test_hosts_without_hooks_are_not_read(
    proxy: ProxyProcess, authority: TestAuthority, tls_origin: HttpOrigin, tmp_path: Path
) -> None:
    done = curl(proxy, tmp_path, "--cacert", str(authority.bundle), f"https://{RAW}:{tls_origin.port}/t")
    assert done.out == "ok from tls\n", done
    done = curl(proxy, tmp_path, "--cacert", str(proxy.ca), f"https://{RAW}:{tls_origin.port}/t")
    assert done.code == 60, done


def test_requests_inside_are_on_record(proxy: ProxyProcess, at: str, tmp_path: Path) -> None:
    curl(proxy, tmp_path, "-X", "POST", *HEADER, f"https://{at}{GOOD}")
    done = curl(proxy, tmp_path, "-o", "/dev/null", "-w", "%header{x-proxy-request-id}", f"https://{at}/no")
    if "%header" in done.out:  # curl before 7.84
        done = curl(proxy, tmp_path, "-o", "/dev/null", "-D", "-", f"https://{at}/no")
    events = proxy.events_of(done.out.rpartition("x-proxy-request-id:")[2].split()[0], 2)
    assert [event["network.policy.reason"] for event in events] == ["allow", "mitm_hook_denied"]
    assert {event["http.request.method"] for event in events} == {"GET"}
    matched = proxy.audit_events(1, lambda event: event.get("network.policy.rule") == "mitm_hooks[0]")
    assert matched[0]["network.policy.decision"] == "allow"
    assert matched[0]["network.peer.address"] == "127.0.0.1"
    written = proxy.audit_log.read_text()
    assert not any(word in written for word in ("/repos", "state=open", "2022-11-28", CANARY))


UNTRUSTING = [
    pytest.param("curl", "set CURL_CA_BUNDLE={bundle}", id="curl"),
    pytest.param("node", "Node: NODE_EXTRA_CA_CERTS={ca}", id="a client without a name"),
]


@pytest.mark.parametrize(("client", "fix"), UNTRUSTING)
def test_a_client_that_does_not_trust_us_is_named_its_fix(
    client: str, fix: str, proxy: ProxyProcess, at: str, tmp_path: Path
) -> None:
    before = len(proxy.output)
    if client == "curl":
        assert curl(proxy, tmp_path, f"https://{at}/t", trusting=False).code == 60
    else:
        assert "error" in node(proxy, tmp_path, f"https://{at}/t", trusting=False)
    line = fix.format(bundle=proxy.ca_bundle, ca=proxy.ca)
    proxy.until(lambda: line in proxy.output[before:], "the fix")
    told = [text for text in proxy.output[before:].splitlines() if "TLS with the client failed" in text]
    assert len(told) == 1
    assert f"host={API}" in told[0]
