"""The outside world as the policy sees it. Tests hand over fakes; the addons hand over the real thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .audit import PolicyDecisionEvent
from .decision import IPAddress, NetworkDecision, NetworkPolicyRequest

if TYPE_CHECKING:
    from .unix_sockets import SocketFile, SocketRules


class Resolver(Protocol):
    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        """All addresses of `name`, best first, within 2 s. Raises `ResolutionFailed`."""
        ...


class NetworkPolicyDecider(Protocol):
    async def __call__(self, request: NetworkPolicyRequest) -> NetworkDecision:
        """Asked only on an allowlist miss. Raising or answering anything else is a deny."""
        ...


class SecretSource(Protocol):
    def environment(self, name: str) -> str:
        """The variable's value, verbatim. Raises `SecretUnavailable`."""
        ...

    def file(self, path: str) -> str:
        """The file's text, trimmed; refuses files others can read. Raises `SecretUnavailable`."""
        ...


class SocketFiles(Protocol):
    def look_up(self, path: str) -> SocketFile:
        """What the absolute `path` leads to now, every symlink followed. Raises `OSError` when it cannot be told."""
        ...


class SocketFinder(Protocol):
    async def find(self, rules: SocketRules, path: str) -> SocketFile | None:
        """`SocketRules.find` without waiting for the file system; what cannot be told in time is nothing."""
        ...

    def permit(self, rules: SocketRules, found: SocketFile) -> bool:
        """Whether the rules would let an open connection to the file stand. Never raises."""
        ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds since the epoch."""
        ...


class AuditSink(Protocol):
    def emit(self, event: PolicyDecisionEvent) -> None:
        """Takes the event without waiting. Never raises."""
        ...
