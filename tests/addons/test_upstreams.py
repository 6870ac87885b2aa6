"""The way through an upstream proxy, with friendly and with hostile ones (security cases L07 and L09)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from codex_network_proxy.addons.door_reach import Outcome, Reached, Unreached
from codex_network_proxy.addons.upstream_connect import CLOSED, MALFORMED, NEEDS_CREDENTIALS, TOO_LARGE, UpstreamFailed
from codex_network_proxy.addons.upstream_pipes import TlsPipe, client_context
from codex_network_proxy.addons.upstreams import ITSELF, NO_TLS, NOT_RESOLVED, TOO_SLOW, Upstreams, log_routes
from codex_network_proxy.policy.decision import HttpUse
from codex_network_proxy.policy.hosts import Endpoint, parse_host
from codex_network_proxy.policy.upstream import UpstreamProxy, read_routes
from codex_network_proxy.socks.dialler import DialFailure
from tests.kit.leaks import holdings
from tests.kit.server import RecordingStream
from tests.kit.tcp_origins import TcpOrigin
from tests.kit.tls import TestAuthority
from tests.socks.sockets import PATIENCE, receive, receive_all, run, tcp_pair

from .upstream_kit import OK, PROXY, FakeResolver, FakeUpstream, Peer, through, upstreams

CANARY = "Basic canary"
PLAIN = HttpUse("GET")
ways = pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])


@pytest.fixture(scope="module")
def context(authority: TestAuthority) -> ssl.SSLContext:
    return authority.server_context(PROXY)


async def echo(peer: Peer) -> None:
    await peer.asked()
    await peer.say(OK)
    while data := await peer.reader.read(1 << 16):
        await peer.say(data)


async def send(sock: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, data)


# -- a tunnel opens --------------------------------------------------------------------------------------------------


@ways
def test_a_tunnel_carries_bytes_both_ways(secure: bool, context: ssl.SSLContext, authority: TestAuthority) -> None:
    async def scenario() -> None:
        resolver, data = FakeResolver(), os.urandom(3 << 20)
        opener = upstreams(resolver, authority.bundle)
        async with FakeUpstream(echo, context if secure else None) as proxy:
            reached = await opener.open(through(proxy.proxy(authorization=CANARY)))
            assert reached.early == b""
            with reached.sock as sock:
                sending = asyncio.create_task(send(sock, data))
                received = b""
                while len(received) < len(data):
                    received += await receive(sock)
                await sending
            assert received == data
            await proxy.gone()
        assert proxy.heads == [
            b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\nProxy-Authorization: Basic canary\r\n\r\n"
        ]
        assert resolver.asked == [PROXY], "the target's name is the upstream proxy's business"

    run(scenario)


def test_a_peer_that_is_read_before_it_reads_stops_nothing(context: ssl.SSLContext, authority: TestAuthority) -> None:
    data = bytes(1 << 20)
    near, far = tcp_pair(buffer=1 << 14)

    def talk_first() -> None:
        far.settimeout(PATIENCE)
        with context.wrap_socket(far, server_side=True) as peer, contextlib.suppress(OSError):
            peer.sendall(data)
            while peer.recv(1 << 16) not in (b"end", b""):
                pass
            peer.sendall(b"done")

    async def scenario() -> None:
        pipe, talking = TlsPipe(near, client_context(authority.bundle), PROXY), asyncio.to_thread(talk_first)
        async with asyncio.TaskGroup() as both:
            both.create_task(talking)
            await pipe.handshake()
            sending = both.create_task(pipe.send(data))
            received = 0
            while received < len(data):
                received += len(await pipe.receive())
            await sending
            await pipe.send(b"end")
            assert await pipe.receive() == b"done"
        pipe.close()

    run(scenario)


@ways
def test_bytes_behind_the_answer_are_kept(secure: bool, context: ssl.SSLContext, authority: TestAuthority) -> None:
    async def speaks_first(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"220 mail", b".test ready\r\n")
        await peer.reader.read()

    async def scenario() -> None:
        async with FakeUpstream(speaks_first, context if secure else None) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            with reached.sock as sock:
                banner = reached.early
                while not banner.endswith(b"\n"):
                    banner += await receive(sock)
            assert banner == b"220 mail.test ready\r\n"

    run(scenario)


@ways
def test_the_client_may_finish_first(secure: bool, context: ssl.SSLContext, authority: TestAuthority) -> None:
    """While bytes come down: over TLS both directions share one state, and the end of one must not cost the other."""
    data = os.urandom(2 << 20)

    def pour(stream: RecordingStream) -> None:
        stream.until(b"\r\n\r\n")
        stream.sock.sendall(OK + data)
        stream.sock.sendall(b"%d bytes" % len(stream.rest()))

    async def scenario() -> None:
        with TcpOrigin(pour, tls=context if secure else None) as server:
            proxy = UpstreamProxy(Endpoint(parse_host(PROXY), server.port), secure)
            reached = await upstreams(bundle=authority.bundle).open(through(proxy))
            with reached.sock as sock:
                await send(sock, bytes(100_000))
                sock.shutdown(socket.SHUT_WR)
                assert reached.early + await receive_all(sock) == data + b"100000 bytes"

    run(scenario)


@ways
def test_the_target_may_finish_first(secure: bool, context: ssl.SSLContext, authority: TestAuthority) -> None:
    async def leave(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK, b"all said")

    async def scenario() -> None:
        async with FakeUpstream(leave, context if secure else None) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            with reached.sock as sock:
                assert reached.early + await receive_all(sock) == b"all said"

    run(scenario)


def test_the_last_bytes_go_up_after_the_socket_was_closed(context: ssl.SSLContext, authority: TestAuthority) -> None:
    data, received = os.urandom(1 << 18), []

    async def keep(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        received.append(await peer.reader.read())

    async def scenario() -> None:
        async with FakeUpstream(keep, context) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            await send(reached.sock, data)
            reached.sock.close()
            await proxy.gone()

    run(scenario)
    assert received == [data]


def test_a_closed_socket_ends_a_bridge_whose_other_side_is_silent(
    context: ssl.SSLContext, authority: TestAuthority
) -> None:
    closed: list[bytes] = []

    async def silent(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        closed.append(await peer.reader.read())
        await asyncio.Event().wait()

    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle)
        async with FakeUpstream(silent, context) as proxy:
            reached = await opener.open(through(proxy.proxy()))
            bridges = list(opener._bridges)
            reached.sock.close()
            await asyncio.wait(bridges)
            assert [bridge.exception() for bridge in bridges] == [None]

    run(scenario)
    assert closed == [b""]


def test_closing_cuts_bridges(context: ssl.SSLContext, authority: TestAuthority) -> None:
    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle)
        async with FakeUpstream(echo, context) as proxy:
            reached = await opener.open(through(proxy.proxy()))
            opener.close()
            with reached.sock as sock:
                assert await receive_all(sock) == b""
            await proxy.gone()

    run(scenario)


def test_a_request_that_is_forwarded_is_not_tunnelled() -> None:
    async def read(peer: Peer) -> None:
        await peer.say(await peer.asked())

    async def scenario() -> None:
        async with FakeUpstream(read) as proxy:
            reached = await upstreams().open(through(proxy.proxy(authorization=CANARY), use=PLAIN))
            with reached.sock as sock:
                await send(sock, b"GET http://example.test/ HTTP/1.1\r\n\r\n")
                assert await receive_all(sock) == b"GET http://example.test/ HTTP/1.1\r\n\r\n"

    run(scenario)


def test_an_ipv6_target_is_asked_for_in_brackets() -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            reached = await upstreams().open(through(proxy.proxy(), "[2001:db8::1]:443"))
            reached.sock.close()
            await proxy.gone()
        assert proxy.heads[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n")

    run(scenario)


# -- it does not -----------------------------------------------------------------------------------------------------


def says(*pieces: bytes) -> Callable[[Peer], object]:
    async def talk(peer: Peer) -> None:
        await peer.asked()
        await peer.say(*pieces)

    return talk


async def refuses(peer: Peer) -> None:
    await peer.say(b"HTTP/1.1 403 No\r\n\r\n")


async def never_answers(peer: Peer) -> None:
    await peer.asked()
    await peer.reader.read()


async def never_ends_its_head(peer: Peer) -> None:
    await peer.asked()
    await peer.say(b"HTTP/1.1 200 OK\r\nx: ")
    await peer.reader.read()


async def never_ends_a_field(peer: Peer) -> None:
    await peer.asked()
    await peer.say(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await peer.say(b"x" * 4096)


async def resets(peer: Peer) -> None:
    await peer.asked()
    sock = peer.writer.get_extra_info("socket")
    peer.writer.transport.abort()
    assert sock


REFUSED, OTHER, LATE = DialFailure.REFUSED, DialFailure.OTHER, DialFailure.TIMED_OUT
HOSTILE = [
    pytest.param(says(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"), NEEDS_CREDENTIALS, REFUSED, id="407"),
    pytest.param(says(b"HTTP/1.1 502 No\r\n\r\n"), "the upstream proxy answered 502", "host unreachable", id="502"),
    pytest.param(refuses, "the upstream proxy answered 403", REFUSED, id="an answer before the question"),
    pytest.param(says(b"canary\r\n\r\n"), MALFORMED, OTHER, id="garbage"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n"), MALFORMED, OTHER, id="200 and garbage"),
    pytest.param(never_ends_a_field, TOO_LARGE, OTHER, id="a field without end"),
    pytest.param(says(b"HTTP/1.1 200 OK\r\nx:"), CLOSED, REFUSED, id="half an answer and the end"),
    pytest.param(says(), CLOSED, REFUSED, id="the end"),
    pytest.param(resets, CLOSED, REFUSED, id="a reset"),
    pytest.param(never_answers, TOO_SLOW, LATE, id="silence"),
    pytest.param(never_ends_its_head, TOO_SLOW, LATE, id="half an answer and silence"),
]


@ways
@pytest.mark.parametrize(("talk", "text", "kind"), HOSTILE)
def test_a_hostile_upstream(
    talk: Callable[[Peer], object],
    text: str,
    kind: str,
    secure: bool,
    context: ssl.SSLContext,
    authority: TestAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle, limit=0.2 if text == TOO_SLOW else 10)
        async with FakeUpstream(talk, context if secure else None) as proxy:  # type: ignore[arg-type]  # all await
            with pytest.raises(UpstreamFailed) as failed:
                await opener.open(through(proxy.proxy()))
            await proxy.gone()
        assert (str(failed.value), failed.value.failure) == (text, kind)

    with caplog.at_level(logging.DEBUG):
        run(scenario)
    assert "canary" not in caplog.text


def test_a_proxy_that_does_not_listen() -> None:
    async def scenario() -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            proxy = FakeUpstream(echo)
            proxy.port = closed.getsockname()[1]
            with pytest.raises(UpstreamFailed, match=r"could not be reached \(connection refused\)") as failed:
                await upstreams().open(through(proxy.proxy()))
            assert failed.value.failure is DialFailure.REFUSED

    run(scenario)


def test_a_proxy_whose_name_is_not_known() -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            with pytest.raises(UpstreamFailed, match=NOT_RESOLVED) as failed:
                await upstreams().open(through(proxy.proxy("unknown.test")))
            assert failed.value.failure is DialFailure.HOST_UNREACHABLE
            assert "unknown.test" not in str(failed.value)

    run(scenario)


@pytest.mark.parametrize("name", ["127.0.0.1", PROXY])
def test_a_proxy_that_is_this_proxy_is_not_dialled(name: str) -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            with pytest.raises(UpstreamFailed, match=f"^{ITSELF}$"):
                await upstreams(own=proxy.port).open(through(proxy.proxy(name)))
            assert not proxy.tasks

    run(scenario)


# -- TLS to the proxy ------------------------------------------------------------------------------------------------


CERTIFICATES = [
    pytest.param("another name", "hostname mismatch", id="of another name"),
    pytest.param("expired", "certificate has expired", id="that has expired"),
    pytest.param("unknown", "unable to get local issuer certificate", id="of an unknown issuer"),
]


@pytest.mark.parametrize(("kind", "reason"), CERTIFICATES)
def test_a_certificate_that_does_not_hold(kind: str, reason: str, authority: TestAuthority, tmp_path: Path) -> None:
    contexts = {
        "another name": lambda: authority.server_context("other.test"),
        "expired": lambda: authority.server_context(PROXY, expired=True),
        "unknown": lambda: TestAuthority(tmp_path).server_context(PROXY),
    }

    async def scenario() -> None:
        async with FakeUpstream(echo, contexts[kind]()) as proxy:
            with pytest.raises(UpstreamFailed) as failed:
                await upstreams(bundle=authority.bundle).open(through(proxy.proxy(authorization=CANARY)))
        assert str(failed.value) == f"the upstream proxy's certificate is not trusted ({reason})"
        assert not proxy.heads

    run(scenario)


def test_a_proxy_that_does_not_speak_tls(authority: TestAuthority) -> None:
    async def plain(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.say(b"HTTP/1.1 400 what?\r\n\r\n")

    async def scenario() -> None:
        async with FakeUpstream(plain) as proxy:
            secure = FakeUpstream(plain, authority.server_context(PROXY))
            secure.port = proxy.port
            with pytest.raises(UpstreamFailed, match=f"^{NO_TLS}$"):
                await upstreams(bundle=authority.bundle).open(through(secure.proxy()))

    run(scenario)


def test_a_proxy_may_be_known_by_its_address(authority: TestAuthority) -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo, authority.server_context("127.0.0.1")) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy("127.0.0.1")))
            reached.sock.close()
            await proxy.gone()

    run(scenario)


def test_roots_that_change_count(authority: TestAuthority, context: ssl.SSLContext, tmp_path: Path) -> None:
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(TestAuthority(tmp_path).bundle.read_bytes())

    async def scenario() -> None:
        opener = upstreams(bundle=bundle)
        async with FakeUpstream(echo, context) as proxy:
            with pytest.raises(UpstreamFailed, match="not trusted"):
                await opener.open(through(proxy.proxy()))
            bundle.write_bytes(authority.bundle.read_bytes())
            os.utime(bundle, ns=(1, 1))
            (await opener.open(through(proxy.proxy()))).sock.close()
            opener.close()

    run(scenario)


def test_without_a_bundle_of_ours_the_usual_roots_count(context: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo, context) as proxy:
            with pytest.raises(UpstreamFailed, match="not trusted"):
                await upstreams().open(through(proxy.proxy()))

    run(scenario)


@ways
def test_nothing_is_left_behind(secure: bool, context: ssl.SSLContext, authority: TestAuthority) -> None:
    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle)

        async def once(proxy: FakeUpstream) -> None:
            with contextlib.suppress(UpstreamFailed, OSError):
                sock = (await opener.open(through(proxy.proxy()))).sock
                try:
                    await send(sock, b"hello")
                finally:
                    sock.close()
            await proxy.gone()

        async def all_kinds() -> None:
            for talk in (echo, refuses, resets, says(b"x"), says(OK), says(OK + b"early"), says()):
                async with FakeUpstream(talk, context if secure else None) as proxy:  # type: ignore[arg-type]  # as above
                    await once(proxy)
            await asyncio.gather(*opener._bridges)

        await all_kinds()
        before = holdings()
        for _ in range(5):
            await all_kinds()
        assert holdings() == before

    run(scenario)


# -- for code that does not await ------------------------------------------------------------------------------------


async def reach(opener: Upstreams, proxy: FakeUpstream, name: str = PROXY) -> Outcome:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    opener.reach(through(proxy.proxy(name, authorization=CANARY)), done.set_result)
    assert not done.done(), "whoever asks must have the way before it ends"
    return await done


def test_who_does_not_await_is_told() -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            outcome = await reach(upstreams(), proxy)
            assert isinstance(outcome, Reached)
            outcome.sock.close()

    run(scenario)


def test_a_failure_is_told() -> None:
    async def scenario() -> None:
        async with FakeUpstream(refuses) as proxy:
            outcome = await reach(upstreams(), proxy)
            assert outcome == Unreached(DialFailure.REFUSED, "the upstream proxy answered 403")

    run(scenario)


def test_an_error_inside_is_a_failure_and_its_text_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeResolver):
        async def resolve(self, name: str, port: int) -> tuple[()]:
            raise ValueError("canary")

    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            outcome = await reach(upstreams(Broken()), proxy)
            assert outcome == Unreached(DialFailure.OTHER, "could not connect")

    run(scenario)
    assert "(ValueError)" in caplog.text
    assert "canary" not in caplog.text


@ways
def test_nobody_is_told_of_a_way_that_was_given_up(
    secure: bool, context: ssl.SSLContext, authority: TestAuthority
) -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        asked = asyncio.Event()

        async def waits(peer: Peer) -> None:
            await peer.asked()
            asked.set()
            await peer.reader.read()

        async with FakeUpstream(waits, context if secure else None) as proxy:
            way = upstreams(bundle=authority.bundle).reach(through(proxy.proxy()), told.append)
            await asked.wait()
            way.cancel()
            way.cancel()
            await proxy.gone()

    run(scenario)
    assert not told


def test_a_way_that_was_given_up_too_late_leaves_no_socket() -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        async with FakeUpstream(echo) as proxy:
            way = upstreams().reach(through(proxy.proxy()), told.append)
            # Of several callbacks the first one in is the first one called: this one comes before the way's own.
            way.task.remove_done_callback(way._finished)
            way.task.add_done_callback(lambda _: way.cancel())
            way.task.add_done_callback(way._finished)
            await asyncio.wait((way.task,))
            await proxy.gone()

    run(scenario)
    assert not told


def test_closing_ends_what_is_under_way() -> None:
    told: list[Outcome] = []

    async def scenario() -> None:
        opener, asked = upstreams(), asyncio.Event()

        async def waits(peer: Peer) -> None:
            await peer.asked()
            asked.set()
            await peer.reader.read()

        async with FakeUpstream(waits) as proxy:
            way = opener.reach(through(proxy.proxy()), told.append)
            await asked.wait()
            opener.close()
            await asyncio.wait((way.task,))
            await proxy.gone()

    run(scenario)
    assert not told


# -- the log ---------------------------------------------------------------------------------------------------------


def test_the_log_says_which_proxies_are_used(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"HTTPS_PROXY": "http://user:canary@proxy.test:1", "HTTP_PROXY": "127.0.0.1:2", "ALL_PROXY": "socks5://x"}
    with caplog.at_level(logging.INFO):
        log_routes(*read_routes(environ), lambda _, port: port == 2)
    assert caplog.messages == [
        "ignoring ALL_PROXY: non-http proxy protocol",
        "ignoring HTTP_PROXY: it is the address of this proxy itself",
        "upstream proxy for HTTPS and other tunnels: http://proxy.test:1",
    ]


def test_without_proxies_there_is_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        log_routes(*read_routes({"NO_PROXY": "*"}), lambda _, port: False)
    assert not caplog.messages
