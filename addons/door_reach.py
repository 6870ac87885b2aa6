"""What comes of the way to a target: a connected socket, or why there is none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from codex_network_proxy.socks.dialler import DialFailure, Dialled


class Reached(NamedTuple):
    """The target is at the other end of `sock`, which belongs to whoever gets this.

    The poller may still watch it. `early`: bytes of the target that came on the way, first to be given to the client.
    """

    sock: socket.socket
    early: bytes = b""


@dataclass(frozen=True, slots=True)
class Unreached:
    """The way failed. `text` is for the client."""

    kind: DialFailure
    text: str


Outcome = Reached | Unreached


class Way(Protocol):
    """An attempt under way."""

    def cancel(self) -> None:
        """Ends the attempt; nobody is told any more. Harmless when called again."""
        ...


def arrive(on_done: Callable[[Outcome], None], dialled: Dialled) -> None:
    """Tells how a direct dial ended."""
    on_done(Unreached(dialled, dialled.value) if isinstance(dialled, DialFailure) else Reached(dialled))
