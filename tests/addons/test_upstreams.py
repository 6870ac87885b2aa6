"""The tunnel that an upstream proxy has opened, and what the log says of such proxies (security case L09)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl

import pytest

from codex_network_proxy.addons.upstream_pipes import TlsPipe, client_context
from codex_network_proxy.addons.upstreams import log_routes
from codex_network_proxy.policy.decision import HttpUse
from codex_network_proxy.policy.hosts import Endpoint, parse_host
from codex_network_proxy.policy.upstream import UpstreamProxy, read_routes
from tests.kit.server import RecordingStream
from tests.kit.tcp_origins import TcpOrigin
from tests.kit.tls import TestAuthority
from tests.socks.sockets import PATIENCE, receive, receive_all, run, send, tcp_pair

from .upstream_kit import CANARY, OK, PROXY, FakeResolver, FakeUpstream, Peer, echo, through, upstreams, ways

PLAIN = HttpUse("GET")


# -- a tunnel opens --------------------------------------------------------------------------------------------------


@ways
def test_a_tunnel_carries_bytes_both_ways(secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
    async def scenario() -> None:
        resolver, data = FakeResolver(), os.urandom(3 << 20)
        opener = upstreams(resolver, authority.bundle)
        async with FakeUpstream(echo, upstream_tls if secure else None) as proxy:
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


def test_a_peer_that_is_read_before_it_reads_stops_nothing(
    upstream_tls: ssl.SSLContext, authority: TestAuthority
) -> None:
    data = bytes(1 << 20)
    near, far = tcp_pair(buffer=1 << 14)

    def talk_first() -> None:
        far.settimeout(PATIENCE)
        with upstream_tls.wrap_socket(far, server_side=True) as peer, contextlib.suppress(OSError):
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
def test_bytes_behind_the_answer_are_kept(secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
    async def speaks_first(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK + b"220 mail", b".test ready\r\n")
        await peer.reader.read()

    async def scenario() -> None:
        async with FakeUpstream(speaks_first, upstream_tls if secure else None) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            with reached.sock as sock:
                banner = reached.early
                while not banner.endswith(b"\n"):
                    banner += await receive(sock)
            assert banner == b"220 mail.test ready\r\n"

    run(scenario)


@ways
def test_the_client_may_finish_first(secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
    """While bytes come down: over TLS both directions share one state, and the end of one must not cost the other."""
    data = os.urandom(2 << 20)

    def pour(stream: RecordingStream) -> None:
        stream.until(b"\r\n\r\n")
        stream.sock.sendall(OK + data)
        stream.sock.sendall(b"%d bytes" % len(stream.rest()))

    async def scenario() -> None:
        with TcpOrigin(pour, tls=upstream_tls if secure else None) as server:
            proxy = UpstreamProxy(Endpoint(parse_host(PROXY), server.port), secure)
            reached = await upstreams(bundle=authority.bundle).open(through(proxy))
            with reached.sock as sock:
                await send(sock, bytes(100_000))
                sock.shutdown(socket.SHUT_WR)
                assert reached.early + await receive_all(sock) == data + b"100000 bytes"

    run(scenario)


@ways
def test_the_target_may_finish_first(secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
    async def leave(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK, b"all said")

    async def scenario() -> None:
        async with FakeUpstream(leave, upstream_tls if secure else None) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            with reached.sock as sock:
                assert reached.early + await receive_all(sock) == b"all said"

    run(scenario)


def test_the_last_bytes_go_up_after_the_socket_was_closed(
    upstream_tls: ssl.SSLContext, authority: TestAuthority
) -> None:
    data, received = os.urandom(1 << 18), []

    async def keep(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        received.append(await peer.reader.read())

    async def scenario() -> None:
        async with FakeUpstream(keep, upstream_tls) as proxy:
            reached = await upstreams(bundle=authority.bundle).open(through(proxy.proxy()))
            await send(reached.sock, data)
            reached.sock.close()
            await proxy.gone()

    run(scenario)
    assert received == [data]


def test_a_closed_socket_ends_a_bridge_whose_other_side_is_silent(
    upstream_tls: ssl.SSLContext, authority: TestAuthority
) -> None:
    closed: list[bytes] = []

    async def silent(peer: Peer) -> None:
        await peer.asked()
        await peer.say(OK)
        closed.append(await peer.reader.read())
        await asyncio.Event().wait()

    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle)
        async with FakeUpstream(silent, upstream_tls) as proxy:
            reached = await opener.open(through(proxy.proxy()))
            bridges = list(opener._bridges)
            reached.sock.close()
            await asyncio.wait(bridges)
            assert [bridge.exception() for bridge in bridges] == [None]

    run(scenario)
    assert closed == [b""]


def test_closing_cuts_bridges(upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle)
        async with FakeUpstream(echo, upstream_tls) as proxy:
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
