"""The open tunnels of a door: relayed, reported, and cut when a new policy no longer allows them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from codex_network_proxy.policy.decision import Allowed
from codex_network_proxy.socks.listener import address_text
from codex_network_proxy.socks.poller import Poller
from codex_network_proxy.socks.relay import Relay

from .handover import TunnelObserver, TunnelReport

# Tunnels cut in one go; the event loop serves everybody else in between.
CUT_AT_ONCE = 100


class _Open(NamedTuple):
    verdict: Allowed
    released: Callable[[], None]
    report: TunnelReport | None


class Tunnels:
    """Every tunnel that is relayed here."""

    def __init__(self, loop: asyncio.AbstractEventLoop, poller: Poller, observer: TunnelObserver | None = None) -> None:
        self._loop = loop
        self._poller = poller
        self.reports = Reports(observer)
        self._open: dict[Relay, _Open] = {}

    def __len__(self) -> int:
        return len(self._open)

    def open(
        self, client: socket.socket, upstream: socket.socket, verdict: Allowed, released: Callable[[], None]
    ) -> Relay:
        """A relay that is not started yet; `released` is called once when it has ended."""
        relay = Relay(self._poller, client, upstream, self._closed)
        report = self.reports.opened(verdict, partial(_peer_text, verdict, upstream))
        self._open[relay] = _Open(verdict, released, report)
        return relay

    def recheck(self, still_allowed: Callable[[Allowed], bool]) -> int:
        """Cuts the tunnels that `still_allowed` refuses, or cannot judge; how many."""
        doomed = [relay for relay, entry in self._open.items() if not holds(still_allowed, entry.verdict)]
        self._cut(doomed)
        return len(doomed)

    def close(self) -> None:
        for relay in list(self._open):
            relay.close()

    def _cut(self, doomed: list[Relay]) -> None:
        for relay in doomed[:CUT_AT_ONCE]:
            relay.close()
        if len(doomed) > CUT_AT_ONCE:
            self._loop.call_soon(self._cut, doomed[CUT_AT_ONCE:])

    def _closed(self, relay: Relay) -> None:
        entry = self._open.pop(relay)
        entry.released()
        self.reports.closed(entry.report, relay.bytes_up, relay.bytes_down)


class Reports:
    """Tells an observer, if there is one, of what is relayed. It must not be able to break anything."""

    def __init__(self, observer: TunnelObserver | None) -> None:
        self._observer = observer

    def opened(self, verdict: Allowed, peer: Callable[[], str]) -> TunnelReport | None:
        """`peer` tells the address that was reached, when anybody wants to know."""
        if self._observer is None:
            return None
        report = TunnelReport(verdict, peer(), 0, 0, time.time(), None)
        with contextlib.suppress(Exception):
            self._observer.tunnel_opened(report)
        return report

    def closed(self, report: TunnelReport | None, bytes_up: int, bytes_down: int) -> None:
        """`report` is what `opened` returned."""
        if self._observer is not None and report is not None:
            with contextlib.suppress(Exception):
                self._observer.tunnel_closed(
                    replace(report, bytes_up=bytes_up, bytes_down=bytes_down, ended=time.time())
                )


def _peer_text(verdict: Allowed, upstream: socket.socket) -> str:
    if verdict.upstream is not None:  # the bridge to one that wants TLS has no address
        return str(verdict.upstream.endpoint)
    try:
        return address_text(upstream.getpeername())
    except OSError:  # gone already
        return "unknown"


def holds(still_allowed: Callable[[Allowed], bool], verdict: Allowed) -> bool:
    """Also when the question itself fails, the answer is no."""
    try:
        return still_allowed(verdict)
    except Exception:
        return False
