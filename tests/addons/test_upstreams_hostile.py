"""Upstream proxies that open no tunnel, and TLS that does not hold: a failure with words of our own (L07, L09)."""

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

from codex_network_proxy.addons.upstream_connect import CLOSED, MALFORMED, NEEDS_CREDENTIALS, TOO_LARGE, UpstreamFailed
from codex_network_proxy.addons.upstreams import ITSELF, NO_TLS, NOT_RESOLVED, TOO_SLOW
from codex_network_proxy.socks.dialler import DialFailure
from tests.kit.leaks import holdings
from tests.kit.tls import TestAuthority
from tests.socks.sockets import run, send

from .upstream_kit import CANARY, OK, PROXY, FakeUpstream, Peer, echo, refuses, through, upstreams, ways

# -- it does not -----------------------------------------------------------------------------------------------------


def says(*pieces: bytes) -> Callable[[Peer], object]:
    async def talk(peer: Peer) -> None:
        await peer.asked()
        await peer.say(*pieces)

    return talk


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
    upstream_tls: ssl.SSLContext,
    authority: TestAuthority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        opener = upstreams(bundle=authority.bundle, limit=0.2 if text == TOO_SLOW else 10)
        async with FakeUpstream(talk, upstream_tls if secure else None) as proxy:  # type: ignore[arg-type]  # all await
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


def test_roots_that_change_count(authority: TestAuthority, upstream_tls: ssl.SSLContext, tmp_path: Path) -> None:
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(TestAuthority(tmp_path).bundle.read_bytes())

    async def scenario() -> None:
        opener = upstreams(bundle=bundle)
        async with FakeUpstream(echo, upstream_tls) as proxy:
            with pytest.raises(UpstreamFailed, match="not trusted"):
                await opener.open(through(proxy.proxy()))
            bundle.write_bytes(authority.bundle.read_bytes())
            os.utime(bundle, ns=(1, 1))
            (await opener.open(through(proxy.proxy()))).sock.close()
            opener.close()

    run(scenario)


def test_without_a_bundle_of_ours_the_usual_roots_count(upstream_tls: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with FakeUpstream(echo, upstream_tls) as proxy:
            with pytest.raises(UpstreamFailed, match="not trusted"):
                await upstreams().open(through(proxy.proxy()))

    run(scenario)


@ways
def test_nothing_is_left_behind(secure: bool, upstream_tls: ssl.SSLContext, authority: TestAuthority) -> None:
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
                async with FakeUpstream(talk, upstream_tls if secure else None) as proxy:  # type: ignore[arg-type]  # as above
                    await once(proxy)
            await asyncio.gather(*opener._bridges)

        await all_kinds()
        before = holdings()
        for _ in range(5):
            await all_kinds()
        assert not holdings().beyond(before)

    run(scenario)
