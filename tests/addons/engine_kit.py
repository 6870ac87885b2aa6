"""A whole engine in this process, with clients and origins on loopback, for what no unit of it can show alone."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mitmproxy.addons.view import View
from mitmproxy.master import Master

from codex_network_proxy.addons.authority import Authority
from codex_network_proxy.addons.master import RunningEngine, start_engine
from codex_network_proxy.addons.runtime import RunOptions, Runtime
from codex_network_proxy.policy.interfaces import NetworkPolicyDecider
from tests.kit.socks_client import GRANTED, GREETING, socks_request
from tests.kit.tls import TestAuthority

PATIENCE = 10.0
"""Seconds after which a wait has failed."""

HOOKED = "hooked.test"
SECRET = "canary-4b1f7c"
NAMES = (HOOKED, "allowed.test", "other.test", "denied.test")

HOOK = f"""
[[permissions.t.network.mitm_hooks]]
host = "{HOOKED}"
[permissions.t.network.mitm_hooks.match]
methods = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]
path_prefixes = ["/ok"]
[permissions.t.network.mitm_hooks.actions]
strip_request_headers = ["x-strip"]
[[permissions.t.network.mitm_hooks.actions.inject_request_headers]]
name = "authorization"
secret_env_var = "TOKEN"
prefix = "Bearer "
"""


def configuration(mode: str = "full", hooks: str = HOOK, lines: Sequence[str] = ()) -> str:
    """A `config.toml` in which every test name but `denied.test` is allowed and `hooked.test` has a hook."""
    values = {
        "enabled": "true",
        "proxy_url": '"http://127.0.0.1:0"',
        "socks_url": '"http://127.0.0.1:0"',
        "mode": f'"{mode}"',
        "mitm": "true",
        "allow_local_binding": "true",
        "allowed_domains": '["hooked.test", "allowed.test", "other.test"]',
        "denied_domains": '["denied.test"]',
    }
    values |= {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in lines)}
    table = [f"{name} = {value}" for name, value in values.items()]
    return "\n".join(['default_permissions = "t"', "[permissions.t.network]", *table, hooks])


@dataclass(slots=True)
class Answer:
    """One HTTP/1.1 response as it came."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for field_name, value in self.fields if field_name.lower() == name), None)


class Peer:
    """One end of a connection: bytes in, bytes out, and HTTP/1.1 read the plain way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):
            await self.writer.drain()

    async def head(self) -> bytes:
        """Everything up to the empty line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, method: str = "GET") -> Answer:
        """The next response, read to its end."""
        first, *lines = (await self.head()).decode("latin-1").split("\r\n")[:-2]
        version, status, reason = (first + " ").split(" ", 2)
        assert version == "HTTP/1.1", first
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        found = Answer(int(status), reason.strip(), fields, b"")
        if method != "HEAD" and int(status) not in (101, 204, 304) and not (method == "CONNECT" and status == "200"):
            found.body = await self._body(found)
        return found

    async def _body(self, answer: Answer) -> bytes:
        if answer.get("transfer-encoding") == "chunked":
            return await self.chunks()
        if (length := answer.get("content-length")) is not None:
            return await self.reader.readexactly(int(length))
        return await self.reader.read()

    async def chunks(self) -> bytes:
        """A chunked body without trailers."""
        body = b""
        while size := int((await self.reader.readuntil(b"\r\n")).partition(b";")[0], 16):
            body += await self.reader.readexactly(size)
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return body

    async def ask(self, request: bytes, method: str = "GET") -> Answer:
        await self.send(request)
        return await self.answer(method)

    async def closed(self) -> bool:
        """Whether nothing more comes: the other side has closed."""
        try:
            return await self.reader.read() == b""
        except (ConnectionError, ssl.SSLError):
            return True

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Request:
    """A request as the origin got it."""

    head: bytes
    body: bytes

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    def values(self, name: bytes) -> list[bytes]:
        lines = [line.partition(b":") for line in self.head.split(b"\r\n")[1:-2]]
        return [value.strip() for field_name, _, value in lines if field_name.lower() == name]


Handler = Callable[["OriginPeer"], Awaitable[None]]


class OriginPeer(Peer):
    """A connection at the origin."""

    origin: Origin

    async def request(self) -> Request:
        """The next request, with its body; recorded."""
        request = Request(await self.head(), b"")
        self.origin.requests.append(request)
        if request.values(b"transfer-encoding"):
            request.body = await self.chunks()
        elif length := request.values(b"content-length"):
            request.body = await self.reader.readexactly(int(length[0]))
        return request


@dataclass(slots=True)
class Origin:
    """What stands behind the test names. `requests` is what it got; `received` counts bytes of raw handlers."""

    handler: Handler
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    peers: list[OriginPeer] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        peer = OriginPeer(reader, writer)
        peer.origin = self
        self.peers.append(peer)
        self.tasks.append(asyncio.get_running_loop().create_task(self.serve(peer)))

    async def serve(self, peer: OriginPeer) -> None:
        try:
            await self.handler(peer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        except Exception as error:
            self.errors.append(error)
        finally:
            peer.close()


def reply(body: bytes = b"fine", *fields: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-length: {len(body)}", *fields, "", ""]).encode() + body


async def polite(peer: OriginPeer) -> None:
    """Answers every request of the connection."""
    while True:
        await peer.request()
        await peer.send(reply())


def saying(*answers: bytes) -> Handler:
    """An origin that answers each request with these very bytes, and closes after the last."""

    async def handler(peer: OriginPeer) -> None:
        for answer in answers:
            await peer.request()
            await peer.send(answer)

    return handler


@dataclass(slots=True)
class Lab:
    """A running engine and its surroundings."""

    engine: RunningEngine
    runtime: Runtime
    authority: TestAuthority
    config: Path
    _peers: list[Peer] = field(default_factory=list)
    _servers: list[asyncio.Server] = field(default_factory=list)

    @property
    def master(self) -> Master:
        return self.engine._master

    @property
    def policy(self) -> Authority:
        return self.runtime.authority

    def add(self, addon: object, before: str | None = None) -> None:
        """Puts another addon into the chain, as another script would: before the named one, or at the very end."""
        addons = self.master.addons
        at = len(addons.chain) if before is None else addons.chain.index(addons.get(before))
        addons.chain.insert(at, addons.register(addon))

    def show(self) -> View:
        """From now on flows are kept for show, as in mitmweb."""
        self.add(view := View())
        return view

    def reload(self, text: str) -> None:
        self.config.write_text(text)
        self.runtime.reload()

    async def origin(
        self, handler: Handler = polite, tls: Sequence[str] | None = None, alpn: Sequence[str] = ("http/1.1",)
    ) -> Origin:
        """Starts an origin; with `tls`, the names its certificate bears."""
        context = self.authority.server_context(*tls, alpn=tuple(alpn)) if tls else None
        return await self.origin_with(handler, context)

    async def socket_origin(self, path: Path, handler: Handler = polite) -> Origin:
        """Starts an origin at a unix socket."""
        origin = Origin(handler)
        self._servers.append(await asyncio.start_unix_server(origin.accept, path))
        return origin

    async def origin_with(self, handler: Handler, context: ssl.SSLContext | None) -> Origin:
        origin = Origin(handler)
        server = await asyncio.start_server(origin.accept, "127.0.0.1", 0, ssl=context)
        origin.port = server.sockets[0].getsockname()[1]
        self._servers.append(server)
        return origin

    async def client(self, listener: str = "http") -> Peer:
        """A connection to the proxy, to one of its listeners as the ready file names them."""
        host, _, port = str(self.engine.addresses()[listener]).rpartition(":")
        peer = Peer(*await asyncio.open_connection(host, int(port)))
        self._peers.append(peer)
        return peer

    async def connect(self, port: int, host: str = HOOKED, early: bytes = b"") -> Peer:
        """A connection on which CONNECT was granted."""
        peer = await self.client()
        target = f"{host}:{port}".encode()
        answer = await peer.ask(b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (target, target) + early, "CONNECT")
        assert answer.status == 200, answer
        return peer

    async def ask_socks(self, port: int, host: str = HOOKED, early: bytes = b"") -> tuple[Peer, int]:
        """A connection on which a SOCKS5 tunnel was asked for, and the code of the reply."""
        peer = await self.client("socks")
        await peer.send(GREETING + socks_request(host.encode(), port) + early)
        assert await peer.reader.readexactly(len(GRANTED)) == GRANTED
        answer = await peer.reader.readexactly(10)
        assert (answer[0], answer[2:4]) == (5, b"\0\1"), answer
        return peer, answer[1]

    async def socks_tunnel(self, port: int, host: str = HOOKED, alpn: Sequence[str] = ("http/1.1",)) -> Peer:
        """A SOCKS5 tunnel in which TLS with the proxy is established."""
        peer, code = await self.ask_socks(port, host)
        assert code == 0
        await peer.writer.start_tls(self.trust(alpn), server_hostname=host)
        return peer

    async def tunnel(
        self, port: int, host: str = HOOKED, alpn: Sequence[str] = ("http/1.1",), sni: str | None = None
    ) -> Peer:
        """A tunnel in which TLS with the proxy is established."""
        peer = await self.connect(port, host)
        await peer.writer.start_tls(self.trust(alpn), server_hostname=sni or host)
        return peer

    def trust(self, alpn: Sequence[str] = ("http/1.1",)) -> ssl.SSLContext:
        """A client's context that trusts the proxy's authority."""
        interception = self.runtime.tls.interception
        assert interception
        context = ssl.create_default_context(cafile=str(interception.ca))
        context.set_alpn_protocols(list(alpn))
        return context

    async def close(self) -> None:
        for peer in self._peers:
            peer.close()
        for server in self._servers:
            server.close()
        await self.engine.stop(1.0)
        self.runtime.close()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)


@asynccontextmanager
async def laboratory(
    folder: Path,
    text: str | None = None,
    *,
    fast_path: bool = True,
    decider: NetworkPolicyDecider | None = None,
    platform: str = sys.platform,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Lab]:
    """Starts an engine with this configuration; everything it needs lies in `folder`."""
    authority = TestAuthority(folder)
    config = folder / "config.toml"
    config.write_text(configuration() if text is None else text)
    known = {"CODEX_HOME": str(folder), "TOKEN": SECRET, "SSL_CERT_FILE": str(authority.bundle), **(environ or {})}
    pins = tuple(f"{name}=127.0.0.1" for name in NAMES)
    runtime = Runtime(RunOptions(config=config, pins=pins, fast_path=fast_path), known, decider, platform=platform)
    lab = Lab(await start_engine(runtime, None), runtime, authority, config)
    try:
        async with asyncio.timeout(PATIENCE):
            yield lab
    finally:
        await lab.close()


Scenario = Callable[[Lab], Awaitable[Any]]


def play(
    scenario: Scenario,
    folder: Path,
    text: str | None = None,
    *,
    fast_path: bool = True,
    decider: NetworkPolicyDecider | None = None,
    platform: str = sys.platform,
) -> Any:
    """Runs a scenario against an engine of its own."""

    async def run() -> Any:
        async with laboratory(folder, text, fast_path=fast_path, decider=decider, platform=platform) as lab:
            return await scenario(lab)

    return asyncio.run(run())
