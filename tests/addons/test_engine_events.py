"""A connection's events without a task for every hook: the same order, and a crash that ends the connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from mitmproxy import connection, options
from mitmproxy.hooks import Hook
from mitmproxy.proxy import commands, events, layer, mode_specs, server_hooks
from mitmproxy.proxy.context import Context

from codex_network_proxy.addons.engine_events import DirectEvents

Script = Callable[[layer.Layer, events.Event], Iterator[commands.Command]]


class Scripted(layer.Layer):
    """A layer that does what the test says, and notes what it was told."""

    def __init__(self, context: Context, script: Script, notes: list[str]) -> None:
        super().__init__(context)
        self._script = script
        self._notes = notes

    def _handle_event(self, event: events.Event) -> Any:
        self._notes.append(type(event).__name__)
        yield from self._script(self, event)


@dataclass
class FakeAddons:
    notes: list[str]
    wait: asyncio.Event | None = None

    async def handle_lifecycle(self, hook: Hook) -> None:
        self.notes.append(hook.name)
        if self.wait:
            await self.wait.wait()


class FakeWriter:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False
        self.answered = asyncio.Event()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    @property
    def written(self) -> bytes:
        return b"".join(self.sent)

    def write_eof(self) -> None:
        self.ended = True

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.sent.append(data)
        if self.written.endswith(b"next"):
            self.answered.set()


class Bench:
    def __init__(self, script: Script, wait: asyncio.Event | None = None) -> None:
        self.notes: list[str] = []
        self.writer = FakeWriter()
        master = SimpleNamespace(addons=FakeAddons(self.notes, wait))
        mode = mode_specs.ProxyMode.parse("regular")
        self.handler = DirectEvents(master, None, self.writer, _options(), mode)
        self.handler.layer = Scripted(self.handler.layer.context, script, self.notes)
        self.handler.log = lambda message, level=logging.INFO, exc_info=None: self.notes.append(message)  # type: ignore[method-assign]  # noted

    @property
    def client(self) -> connection.Client:
        return self.handler.client


def _options() -> options.Options:
    opts = options.Options()
    opts.add_option("proxy_debug", bool, False, "")
    return opts


def hook_then_data(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    if isinstance(event, events.Start):
        yield server_hooks.ClientConnectedHook(scripted.context.client)
        yield commands.SendData(scripted.context.client, b"after the hook")


def test_what_a_hook_does_at_once_needs_no_turn_of_the_loop() -> None:
    async def main() -> Bench:
        bench = Bench(hook_then_data)
        await bench.handler.server_event(events.Start())
        return bench

    bench = asyncio.run(main())
    assert bench.notes == ["Start", "client_connected"]
    assert bench.writer.written == b"after the hook"


def blocking_hook(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    if isinstance(event, events.Start):
        yield layer.NextLayerHook(layer.NextLayer(scripted.context))
        yield commands.SendData(scripted.context.client, b"answer ")
    elif isinstance(event, events.DataReceived):
        yield commands.SendData(scripted.context.client, b"next")


def test_while_a_hook_waits_later_events_wait_as_well() -> None:
    async def main() -> tuple[bytes, Bench]:
        wait = asyncio.Event()
        bench = Bench(blocking_hook, wait)
        await bench.handler.server_event(events.Start())
        await bench.handler.server_event(events.DataReceived(bench.client, b"x"))
        before = bench.writer.written
        wait.set()
        await bench.writer.answered.wait()
        return before, bench

    before, bench = asyncio.run(main())
    assert before == b""
    assert bench.writer.written == b"answer next"


def crash(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    yield commands.SendData(scripted.context.client, b"before")
    raise ValueError("what the client sent")


def test_a_layer_that_crashes_ends_the_connection_and_its_text_is_not_logged() -> None:
    async def main() -> tuple[Bench, asyncio.Task[Any]]:
        bench = Bench(crash)
        reading = asyncio.ensure_future(asyncio.Event().wait())
        bench.handler.transports[bench.client].handler = reading
        await bench.handler.server_event(events.Start())
        with pytest.raises(asyncio.CancelledError):
            await reading
        return bench, reading

    bench, reading = asyncio.run(main())
    assert reading.cancelled()
    assert bench.notes == ["Start", "a protocol layer crashed (ValueError); the connection is cut"]


def unknown(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    yield commands.Command()


def test_a_command_that_is_not_known_ends_the_connection() -> None:
    async def main() -> Bench:
        bench = Bench(unknown)
        await bench.handler.server_event(events.Start())
        return bench

    assert "a protocol layer crashed (RuntimeError); the connection is cut" in asyncio.run(main()).notes


def to_nobody(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    yield commands.SendData(connection.Server(address=("gone.test", 1)), b"lost")
    yield commands.SendData(scripted.context.client, b"kept")


def test_bytes_for_a_connection_that_is_gone_are_dropped() -> None:
    async def main() -> Bench:
        bench = Bench(to_nobody)
        await bench.handler.server_event(events.Start())
        return bench

    assert asyncio.run(main()).writer.written == b"kept"


def test_an_event_from_within_waits_for_its_turn() -> None:
    async def main() -> Bench:
        def nested(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
            if isinstance(event, events.Start):
                inner = bench.handler.server_event(events.DataReceived(bench.client, b"x"))
                with pytest.raises(StopIteration):
                    inner.send(None)
                yield commands.SendData(scripted.context.client, b"first ")
            else:
                yield commands.SendData(scripted.context.client, b"second")

        bench = Bench(nested)
        await bench.handler.server_event(events.Start())
        return bench

    assert asyncio.run(main()).writer.written == b"first second"


def pieces(scripted: layer.Layer, event: events.Event) -> Iterator[commands.Command]:
    client = scripted.context.client
    yield commands.SendData(client, b"head, ")
    yield commands.SendData(client, b"body")
    if isinstance(event, events.DataReceived):
        yield commands.CloseTcpConnection(client, half_close=True)


def test_what_an_event_leads_to_is_sent_in_one_go_and_before_the_end() -> None:
    async def main() -> Bench:
        bench = Bench(pieces)
        await bench.handler.server_event(events.Start())
        await bench.handler.server_event(events.DataReceived(bench.client, b"x"))
        return bench

    writer = asyncio.run(main()).writer
    assert (writer.sent, writer.ended) == ([b"head, body"] * 2, True)


def test_what_was_to_be_sent_before_a_layer_crashed_is_sent() -> None:
    async def main() -> Bench:
        bench = Bench(crash)
        await bench.handler.server_event(events.Start())
        return bench

    assert asyncio.run(main()).writer.sent == [b"before"]
