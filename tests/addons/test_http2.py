"""HTTP/2 inside a tunnel: each stream for itself, whatever the origin speaks (classes E, F, H)."""

from __future__ import annotations

from pathlib import Path

import pytest

from codex_network_proxy.addons.http2 import CLIENT_WINDOW, ORIGIN_WINDOW
from codex_network_proxy.policy.decision import Allowed, NetworkPolicyRequest, Verdict

from .engine_kit import HOOKED, SECRET, Lab, Origin, configuration, play, polite
from .h2_kit import ErrorCodes, Fields, Http2Peer, fine, get, http2, http2_origin

SMUGGLED = b"GET /evil HTTP/1.1\r\nhost: evil.test\r\n\r\n"
VERSIONS = [pytest.param("http/1.1", id="an origin of HTTP/1.1"), pytest.param("h2", id="an origin of HTTP/2")]


async def start(lab: Lab, version: str) -> tuple[Http2Peer, Origin]:
    """A client inside a tunnel to an origin of this version."""
    handler, alpn = (http2_origin(), "h2") if version == "h2" else (polite, "http/1.1")
    origin = await lab.origin(handler, tls=[HOOKED], alpn=[alpn])
    return await http2(lab, origin.port), origin


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_passes_with_its_secret(version: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, version)
        fields = get(origin.port, b"/ok?q", (b"authorization", b"mine"), (b"x-strip", b"1"), (b"cookie", b"a=1"),
                     (b"cookie", b"b=2"), (b"via", b"1.1 me"))  # fmt: skip
        stream = await client.ask(fields)
        assert (stream.status, stream.text) == (200, "fine")
        (request,) = origin.requests
        head = request.head
        assert f"authorization: Bearer {SECRET}".encode() in head
        for gone in (b"mine", b"x-strip", b"via"):
            assert gone not in head
        assert b"cookie: a=1; b=2" in head

    play(scenario, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_body_without_a_length_stays_a_body(version: str, tmp_path: Path) -> None:
    """The worst there was: an origin of HTTP/1.1 read it as a second request, which no policy had seen."""

    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, version)
        assert (await client.ask(get(origin.port, method=b"POST"), SMUGGLED)).status == 200
        (request,) = origin.requests
        head, body = request.head, request.body
        assert body == SMUGGLED
        assert (b"transfer-encoding: chunked" in head) is (version == "http/1.1")

    play(scenario, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("length", [b"1", b"100"], ids=["too short", "too long"])
def test_a_length_that_lies_reaches_nobody_whole(version: str, length: bytes, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, version)
        number = await client.start(get(origin.port, b"/ok", (b"content-length", length), method=b"POST"), end=False)
        client.h2.send_data(number, SMUGGLED, end_stream=True)
        await client.flush()
        stream = await client.answer(number)
        assert stream.status in (0, 400)
        assert all(request.body == b"" for request in origin.requests)

    play(scenario, tmp_path)


REFUSED = [
    pytest.param([(b":method", b"CONNECT"), (b":authority", b"evil.test:443")], 405,
                 "CONNECT not supported inside MITM", id="CONNECT"),
    pytest.param([(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"),
                  (b":authority", b"hooked.test"), (b":path", b"/ok")], 405, "CONNECT not supported inside MITM",
                 id="extended CONNECT"),
    pytest.param([(b":method", b"TRACE"), (b":scheme", b"https"), (b":authority", b"hooked.test"), (b":path", b"/ok")],
                 405, "TRACE is not supported", id="TRACE"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"evil.test"), (b":path", b"/ok")],
                 400, "host mismatch", id="another authority"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"hooked.test"), (b":path", b"/ok")],
                 400, "host mismatch", id="another port"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"hooked.test"), (b":path", b"/ok")],
                 400, "host mismatch", id="another scheme"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"hooked.test"), (b":path", b"/a b")],
                 400, "invalid request target", id="a space in the path"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/ok"), (b"connection", b"close")], 400,
                 "malformed request head", id="a field of the connection"),
    pytest.param([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/ok"), (b"x", b"a\r\nb: c")], 400,
                 "malformed request head", id="a line break in a value"),
]  # fmt: skip


@pytest.mark.parametrize("body", [None, b"body"], ids=["without a body", "with a body"])
@pytest.mark.parametrize(("fields", "status", "words"), REFUSED)
def test_a_bad_stream_ends_alone(fields: Fields, status: int, words: str, body: bytes | None, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "http/1.1")
        number = await client.start(fields, end=body is None)
        stream = await client.answer(number)
        assert (stream.status, stream.text) == (status, words)
        assert stream.reset in (None, ErrorCodes.NO_ERROR)
        assert (await client.ask(get(origin.port))).status == 200, "the others go on"
        assert len(origin.requests) == 1

    play(scenario, tmp_path)


def test_each_stream_is_judged(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        paths = [b"/ok/1", b"/evil", b"/ok/2", b"/ok/../evil", b"/ok/3"]
        numbers = [await client.start(get(origin.port, path)) for path in paths]
        streams = [await client.answer(number) for number in numbers]
        assert [stream.status for stream in streams] == [200, 403, 200, 403, 200]
        assert streams[1].get(b"x-proxy-error") == b"blocked-by-mitm-hook"
        assert streams[1].get(b"x-proxy-request-id")

    play(scenario, tmp_path)


def test_a_refused_upload_is_answered_at_once(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        number = await client.start(get(origin.port, b"/evil", method=b"POST"), end=False)
        assert (await client.answer(number)).status == 403
        await client.data(number, bytes(100_000), end=True)
        assert (await client.ask(get(origin.port))).status == 200

    play(scenario, tmp_path)


def test_an_endless_refused_upload_is_stopped(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        number = await client.start(get(origin.port, b"/evil", method=b"POST"), end=False)
        stream = await client.answer(number)
        stream.ended = False
        with pytest.raises(ConnectionResetError):
            await client.data(number, bytes(64 << 20))
        assert stream.reset in (ErrorCodes.NO_ERROR, ErrorCodes.CANCEL)
        assert (await client.ask(get(origin.port))).status == 200

    play(scenario, tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_trailers_of_requests_end_here(version: str, tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, version)
        number = await client.start(get(origin.port, method=b"POST"), end=False)
        client.h2.send_data(number, b"hello")
        client.h2.send_headers(number, [(b"authorization", b"mine"), (b"x-sum", b"1")], end_stream=True)
        await client.flush()
        assert (await client.answer(number)).status == 200
        (request,) = origin.requests
        head, body = request.head, request.body
        assert body == b"hello"
        assert b"mine" not in head
        assert b"x-sum" not in head

    play(scenario, tmp_path)


def test_bad_trailers_end_their_stream(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        number = await client.start(get(origin.port, method=b"POST"), end=False)
        client.h2.send_data(number, b"hello")
        client.h2.send_headers(number, [(b":path", b"/evil")], end_stream=True)
        await client.flush()
        stream = await client.answer(number)
        assert (stream.status, stream.reset) in ((0, ErrorCodes.PROTOCOL_ERROR), (400, None))
        assert (await client.ask(get(origin.port))).status == 200

    play(scenario, tmp_path)


def test_trailers_of_answers_pass(tmp_path: Path) -> None:
    async def with_trailers(side: Http2Peer, number: int) -> None:
        side.h2.send_headers(number, [(b":status", b"200")])
        side.h2.send_data(number, b"fine")
        side.h2.send_headers(number, [(b"grpc-status", b"0")], end_stream=True)

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(with_trailers), tls=[HOOKED], alpn=["h2"])
        stream = await (await http2(lab, origin.port)).ask(get(origin.port))
        assert (stream.text, stream.trailers) == ("fine", [(b"grpc-status", b"0")])
        client = await lab.tunnel(origin.port, alpn=("h2", "http/1.1"))
        client.close()

    play(scenario, tmp_path)


def test_windows_are_small(tmp_path: Path) -> None:
    windows = []

    async def note(side: Http2Peer, number: int) -> None:
        windows.append(side.h2.remote_settings.initial_window_size)
        await fine(side, number)

    async def scenario(lab: Lab) -> None:
        origin = await lab.origin(http2_origin(note), tls=[HOOKED], alpn=["h2"])
        client = await http2(lab, origin.port)
        await client.ask(get(origin.port))
        windows.append(client.h2.remote_settings.initial_window_size)

    play(scenario, tmp_path)
    assert windows == [ORIGIN_WINDOW, CLIENT_WINDOW]


def test_limited_mode_counts_a_body_that_nobody_announced(tmp_path: Path) -> None:
    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        number = await client.start(get(origin.port), end=False)
        stream = await client.answer(number)
        assert (stream.status, stream.get(b"x-proxy-error")) == (403, b"blocked-by-method-policy")
        assert (await client.ask(get(origin.port))).status == 200

    play(scenario, tmp_path, configuration("limited"))


def test_a_decision_is_asked_once_for_each_stream(tmp_path: Path) -> None:
    asked: list[NetworkPolicyRequest] = []

    async def scenario(lab: Lab) -> None:
        client, origin = await start(lab, "h2")
        decide = lab.policy.decide

        async def counting(request: NetworkPolicyRequest, tunnel: Allowed | None = None) -> Verdict:
            asked.append(request)
            return await decide(request, tunnel)

        lab.policy.decide = counting  # type: ignore[method-assign]  # counts and passes on
        for _ in range(3):
            await client.ask(get(origin.port))

    play(scenario, tmp_path)
    assert len(asked) == 3
