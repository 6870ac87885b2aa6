"""May a request go to this unix socket? Mode, platform and path, in the order of spec A9 and B4.4."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from .decision import (
    ALLOW_REASON,
    Allowed,
    Blocked,
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
    from .interfaces import SocketFiles, SocketFinder

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


async def decide_socket(
    policy: NetworkPolicy, request: NetworkPolicyRequest, path: str, finder: SocketFinder | None, request_id: str
) -> Allowed | Blocked:
    """Decides a request that names `path`. `finder` is `None` on a platform that has no business with sockets."""
    ruling = judge_socket_use(policy, request)
    if ruling is not None:
        return Blocked(request_id, request, (ruling,))
    if finder is None:
        return Blocked(request_id, request, (_deny(BlockReason.UNIX_SOCKET_UNSUPPORTED),))
    found = await finder.find(policy.unix_sockets, path) if _is_local(request.client_address) else None
    if found is None:
        return Blocked(request_id, request, (_deny(BlockReason.NOT_ALLOWED),))
    return Allowed(request_id, request, (_ALLOW,), (), socket=found)


def judge_socket_use(policy: NetworkPolicy, request: NetworkPolicyRequest) -> Ruling | None:
    """Steps 2 and 3: state and mode. `None`: neither minds."""
    if not policy.enabled:
        return _deny(BlockReason.PROXY_DISABLED)
    if not (isinstance(request.use, HttpUse) and reads_only(policy.mode, request.use)):
        return _deny(BlockReason.METHOD_NOT_ALLOWED, DecisionSource.MODE_GUARD)
    return None


def keeps_socket(
    policy: NetworkPolicy, request: NetworkPolicyRequest, found: SocketFile, finder: SocketFinder | None
) -> bool:
    """Whether the policy would let an open connection to `found` stand."""
    if finder is None or judge_socket_use(policy, request) is not None:
        return False
    return finder.permit(policy.unix_sockets, found)


def _is_local(client_address: str | None) -> bool:
    """Sockets are for this machine alone, also where a listener is open to others since before a reload."""
    try:
        address = ip_address((client_address or "").rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _deny(reason: BlockReason, source: DecisionSource = DecisionSource.PROXY_STATE) -> Ruling:
    return Ruling(Decision.DENY, reason, source, PolicyScope.NON_DOMAIN)


# The path stays out of it: rulings go into the audit log.
_ALLOW = Ruling(Decision.ALLOW, ALLOW_REASON, DecisionSource.PROXY_STATE, PolicyScope.NON_DOMAIN)
