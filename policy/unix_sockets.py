"""May a request go to this unix socket? Mode, platform and path, in the order of spec A9 and B4.4."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .decision import (
    ALLOW_REASON,
    BlockReason,
    Decision,
    DecisionSource,
    HttpUse,
    NetworkPolicyRequest,
    PolicyScope,
    Ruling,
)
from .hosts import Endpoint, Host
from .modes import reads_only
from .unix_paths import is_plain_path, normalize_socket_path

if TYPE_CHECKING:
    from .engine import NetworkPolicy
    from .interfaces import SocketFiles

UNIX_SOCKET = Endpoint(Host("unix-socket", None, None), 0)
"""The sentinel that stands for a socket where a server is named (spec B10.3)."""


@dataclass(frozen=True, slots=True)
class SocketFile:
    """What a path led to when it was looked at.

    `path` is the one asked for, normalised, and `real` the same without symlinks. `identity` is device and number of
    the file, `None` when there is none.
    """

    path: str
    real: str
    identity: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SocketRules:
    """Which sockets may be reached: paths as configured, normalised. Deny wins, also over `allow_all`."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    allow_all: bool = False

    def but(self, denied: Iterable[str]) -> SocketRules:
        """The same rules with further paths denied."""
        return replace(self, denied=(*self.denied, *denied))

    def find(self, path: str, files: SocketFiles) -> SocketFile | None:
        """What a request may be sent to that names `path`, or nothing. Looks at files, so it may take its time."""
        if not is_plain_path(path):
            return None
        try:
            found = files.look_up(normalize_socket_path(path))
            return found if self.permit(found, files) else None
        except OSError:
            # Also when a denied entry cannot be looked at: it may be this very file.
            return None

    def permit(self, found: SocketFile, files: SocketFiles) -> bool:
        """Whether the file is one of the allowed and none of the denied ones, under whatever name.

        Raises `OSError` when it cannot be told.
        """
        if any(_is_same(entry, found, files) for entry in self.denied):
            return False
        return self.allow_all or any(_is_surely_same(entry, found, files) for entry in self.allowed)


def _is_same(entry: str, found: SocketFile, files: SocketFiles) -> bool:
    """Equal as text, or the same file behind links on either side, or on a file system that ignores case."""
    if entry in (found.path, found.real):
        return True
    return found.identity is not None and files.look_up(entry).identity == found.identity


def _is_surely_same(entry: str, found: SocketFile, files: SocketFiles) -> bool:
    try:
        return _is_same(entry, found, files)
    except OSError:
        return False


def judge_socket_use(policy: NetworkPolicy, request: NetworkPolicyRequest, *, supported: bool) -> Ruling | None:
    """Everything but the path (steps 2 to 4). `None`: now it is the path that counts."""
    if not policy.enabled:
        return _deny(BlockReason.PROXY_DISABLED)
    if not (isinstance(request.use, HttpUse) and reads_only(policy.mode, request.use)):
        return _deny(BlockReason.METHOD_NOT_ALLOWED, DecisionSource.MODE_GUARD)
    return None if supported else _deny(BlockReason.UNIX_SOCKET_UNSUPPORTED)


def socket_ruling(found: SocketFile | None) -> Ruling:
    """Steps 5 and 6: what was found for the path, or nothing. The path itself stays out of the audit log."""
    if found is None:
        return _deny(BlockReason.NOT_ALLOWED)
    return Ruling(Decision.ALLOW, ALLOW_REASON, DecisionSource.PROXY_STATE, PolicyScope.NON_DOMAIN)


def _deny(reason: BlockReason, source: DecisionSource = DecisionSource.PROXY_STATE) -> Ruling:
    return Ruling(Decision.DENY, reason, source, PolicyScope.NON_DOMAIN)
