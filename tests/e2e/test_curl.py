"""curl, as people use it: what it gets, and what it is told when it gets nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.answers import BLOCKS
from tests.kit.clients import Done, need, proxy_environment, run
from tests.kit.fleet import Fleet
from tests.kit.h2_origin import Http2Origin
from tests.kit.origins import HttpOrigin
from tests.kit.policies import LIMITED, OPEN, STRICT, Policy
from tests.kit.proxy import ProxyProcess
from tests.kit.tls import TestAuthority

TLS_NAME = "a.sub.test"


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


def curl(proxy: ProxyProcess, folder: Path, *arguments: str, stdin: bytes = b"") -> Done:
    return run([need("curl"), "-sS", "-v", *arguments], folder, proxy_environment(proxy), stdin)


def test_plain_request(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    done = curl(proxy, tmp_path, f"http://allowed.test:{origin.port}/t")
    assert (done.code, done.out) == (0, "ok from shared\n"), done


def test_tunnel(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    done = curl(proxy, tmp_path, "--proxytunnel", f"http://allowed.test:{origin.port}/t")
    assert (done.code, done.out) == (0, "ok from shared\n"), done


def test_https(proxy: ProxyProcess, authority: TestAuthority, tmp_path: Path) -> None:
    with HttpOrigin("tls", tls=authority.server_context(TLS_NAME)) as server:
        done = curl(proxy, tmp_path, "--cacert", str(authority.bundle), f"https://{TLS_NAME}:{server.port}/t")
        assert (done.code, done.out) == (0, "ok from tls\n"), done
        assert server.recorder.connections[0].sni == TLS_NAME


def test_https_with_http2(proxy: ProxyProcess, authority: TestAuthority, tmp_path: Path) -> None:
    with Http2Origin(authority.server_context(TLS_NAME, alpn=("h2",))) as server:
        address = f"https://{TLS_NAME}:{server.port}/t"
        done = curl(proxy, tmp_path, "--http2", "--cacert", str(authority.bundle), address)
        assert (done.code, done.out) == (0, "ok from h2\n"), done


PLAIN_BLOCKS = [
    pytest.param(OPEN, "evil.test", (), "not_allowed", id="a name that is not listed"),
    pytest.param(OPEN, "denied.test", (), "denied", id="a denied name"),
    pytest.param(STRICT, "allowed.test", (), "not_allowed_local", id="a name that resolves to loopback"),
    pytest.param(STRICT, "127.0.0.1", (), "not_allowed_local", id="a loopback literal"),
    pytest.param(LIMITED, "allowed.test", ("-X", "POST"), "method_not_allowed", id="POST in limited mode"),
    pytest.param(LIMITED, "allowed.test", ("-X", "DELETE"), "method_not_allowed", id="DELETE in limited mode"),
]


@pytest.mark.parametrize(("policy", "host", "options", "reason"), PLAIN_BLOCKS)
def test_plain_block_names_the_reason(
    policy: Policy,
    host: str,
    options: tuple[str, ...],
    reason: str,
    fleet: Fleet,
    origin: HttpOrigin,
    fast_path: bool,
    tmp_path: Path,
) -> None:
    mark = origin.recorder.mark()
    done = curl(fleet.get(policy, fast_path), tmp_path, *options, f"http://{host}:{origin.port}/t")
    code, sentence = BLOCKS[reason]
    assert f"< HTTP/1.1 403 Blocked by network policy ({code})" in done.err, done
    assert f"< x-proxy-error: {code}" in done.err
    assert sentence in done.out
    assert not origin.recorder.since(mark)


CONNECT_BLOCKS = [
    pytest.param(OPEN, "evil.test", "not_allowed", id="a name that is not listed"),
    pytest.param(OPEN, "denied.test", "denied", id="a denied name"),
    pytest.param(STRICT, "allowed.test", "not_allowed_local", id="a name that resolves to loopback"),
    pytest.param(LIMITED, "allowed.test", "mitm_required", id="any tunnel in limited mode without inspection"),
]


@pytest.mark.parametrize(("policy", "host", "reason"), CONNECT_BLOCKS)
def test_tunnel_block_shows_its_code_in_verbose_output(
    policy: Policy, host: str, reason: str, fleet: Fleet, origin: HttpOrigin, fast_path: bool, tmp_path: Path
) -> None:
    mark = origin.recorder.mark()
    done = curl(fleet.get(policy, fast_path), tmp_path, f"https://{host}:{origin.port}/t")
    assert done.code == 56, done
    assert "CONNECT tunnel failed, response 403" in done.err
    assert f"< x-proxy-error: {BLOCKS[reason][0]}" in done.err
    assert not origin.recorder.since(mark)


def test_what_limited_mode_lets_through(fleet: Fleet, origin: HttpOrigin, fast_path: bool, tmp_path: Path) -> None:
    proxy = fleet.get(LIMITED, fast_path)
    for options in ((), ("-I",), ("-X", "OPTIONS")):
        done = curl(proxy, tmp_path, *options, f"http://allowed.test:{origin.port}/t")
        assert "< HTTP/1.1 200 OK" in done.err, done


def test_a_head_request_is_blocked_without_a_body(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    done = curl(proxy, tmp_path, "-I", f"http://evil.test:{origin.port}/t")
    assert "< x-proxy-error: blocked-by-allowlist" in done.err, done
    assert "blocked" not in done.out.partition("\r\n\r\n")[2]


def test_an_upload_arrives(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    address = f"http://allowed.test:{origin.port}/upload"
    done = curl(proxy, tmp_path, "-T", "-", address, stdin=bytes(700_000))
    assert done.out == '{"received": 700000}', done


def test_a_denied_upload_gets_the_whole_answer(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    mark = origin.recorder.mark()
    address = f"http://denied.test:{origin.port}/upload"
    for options in (("-T", "-"), ("-H", "Expect:", "--data-binary", "@-")):
        done = curl(proxy, tmp_path, *options, address, stdin=bytes(2_000_000))
        assert BLOCKS["denied"][1] in done.out, done
        assert "100 Continue" not in done.err
    assert not origin.recorder.since(mark)


def test_a_redirect_to_a_name_that_is_not_listed_is_blocked(
    proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path
) -> None:
    target = f"http://evil.test:{origin.port}/t"
    done = curl(proxy, tmp_path, "-L", f"http://allowed.test:{origin.port}/redirect?to={target}")
    assert "< HTTP/1.1 302 Found" in done.err, done
    assert BLOCKS["not_allowed"][1] in done.out


def test_a_name_that_does_not_resolve_is_no_block(fleet: Fleet, fast_path: bool, tmp_path: Path) -> None:
    proxy = fleet.get(replace(OPEN, allowed=("*.nowhere.test",)), fast_path)
    done = curl(proxy, tmp_path, "http://a.nowhere.test/")
    assert done.out == "upstream failure: could not resolve a.nowhere.test", done
    assert "< HTTP/1.1 502" in done.err
    assert "x-proxy-error" not in done.err


def test_proxy_credentials_go_no_further(proxy: ProxyProcess, origin: HttpOrigin, tmp_path: Path) -> None:
    before = len(origin.recorder.received)
    address = f"http://allowed.test:{origin.port}/echo"
    done = curl(proxy, tmp_path, "-x", f"http://user:canary@{proxy.http}", address)
    assert done.code == 0, done
    assert b"authorization" not in origin.recorder.received[before:].lower()
    assert "dXNlcjpjYW5hcnk" not in proxy.output
