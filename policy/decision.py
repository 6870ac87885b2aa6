"""The words of a decision: what is asked, what is answered, and why (spec A3, B9.2, B10)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .hooks import HookMatch
    from .hosts import Endpoint
    from .unix_sockets import SocketFile
    from .upstream import UpstreamProxy

IPAddress = IPv4Address | IPv6Address


class NetworkProtocol(StrEnum):
    """The door a request came through, as audit events name it (spec B10.2)."""

    HTTP = "http"
    HTTPS_CONNECT = "https_connect"
    SOCKS5_TCP = "socks5_tcp"
    SOCKS5_UDP = "socks5_udp"


class Decision(StrEnum):
    """What was decided. `ask` is enforced as `deny` is, and says that somebody may still allow it (spec B11.3)."""

    ALLOW = "allow"
    DENY = "deny"
    ASK = "ask"


class DecisionSource(StrEnum):
    """What has decided: the lists, the mode and hooks, the state of the proxy, or a decider (spec B10.2)."""

    BASELINE_POLICY = "baseline_policy"
    MODE_GUARD = "mode_guard"
    PROXY_STATE = "proxy_state"
    DECIDER = "decider"


class PolicyScope(StrEnum):
    DOMAIN = "domain"
    NON_DOMAIN = "non_domain"


class BlockReason(StrEnum):
    """Why a request was blocked (spec B4.7). A decider may add words of its own, which count as `policy_denied`."""

    NOT_ALLOWED = "not_allowed"
    NOT_ALLOWED_LOCAL = "not_allowed_local"
    DENIED = "denied"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    MITM_REQUIRED = "mitm_required"
    MITM_HOOK_DENIED = "mitm_hook_denied"
    POLICY_DENIED = "policy_denied"
    PROXY_DISABLED = "proxy_disabled"
    UNIX_SOCKET_UNSUPPORTED = "unix_socket_unsupported"


ALLOW_REASON = "allow"


@dataclass(frozen=True, slots=True)
class NetworkDecision:
    """What a decider answers. Build it with `allow()`, `deny(reason)` or `ask(reason)` (spec A10, B9.2).

    `ask` is enforced as a deny and labelled `ask`, for an application that puts the question to a person afterwards.
    An empty reason is `policy_denied`. `source` says who spoke; what a decider answers counts as the decider's own.
    """

    decision: Decision
    reason: str = ALLOW_REASON
    source: DecisionSource = DecisionSource.DECIDER

    @classmethod
    def allow(cls) -> NetworkDecision:
        """Lets the request go on; mode, hooks and the check of the address come after it."""
        return cls(Decision.ALLOW)

    @classmethod
    def deny(cls, reason: str = "") -> NetworkDecision:
        """Blocks it. `reason` is for log, audit and buffer; without one it is `policy_denied`."""
        return cls.deny_with_source(reason, DecisionSource.DECIDER)

    @classmethod
    def ask(cls, reason: str = "") -> NetworkDecision:
        """Blocks it, labelled as a question that somebody may still answer."""
        return cls.ask_with_source(reason, DecisionSource.DECIDER)

    @classmethod
    def deny_with_source(cls, reason: str, source: DecisionSource) -> NetworkDecision:
        """`deny` in the name of somebody else."""
        return cls(Decision.DENY, reason or BlockReason.POLICY_DENIED, source)

    @classmethod
    def ask_with_source(cls, reason: str, source: DecisionSource) -> NetworkDecision:
        """`ask` in the name of somebody else."""
        return cls(Decision.ASK, reason or BlockReason.POLICY_DENIED, source)


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The client wants bytes moved: CONNECT or SOCKS5."""


@dataclass(frozen=True, slots=True)
class HttpUse:
    """The client sent an HTTP request that the proxy reads.

    `path` is the raw target as it will be forwarded (path and query), `headers` the raw fields in order.
    `secure` is true for `https:`, inside an intercepted tunnel or in absolute form.
    """

    method: str
    secure: bool = False
    path: str = field(default="/", repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    has_body: bool = False
    upgrade: str | None = None


Use = Tunnel | HttpUse


@dataclass(frozen=True, slots=True)
class ClientScope:
    """What the embedding code said of a client when it gave it a way in of its own (spec B9.2).

    Raises `ValueError` for what is no text, such as a list of arguments: it could be neither compared nor audited.
    """

    command: str | None = None
    exec_policy_hint: str | None = None
    environment_id: str | None = None
    execution_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("command", "exec_policy_hint", "environment_id", "execution_id"):
            if not isinstance(value := getattr(self, name), str | None):
                raise ValueError(f"{name} is of type {type(value).__name__}; write a string")


UNSCOPED = ClientScope()


@dataclass(frozen=True, slots=True)
class NetworkPolicyRequest:
    """One question to the policy, as the decider sees it (spec B9.2).

    `socket_path`: the unix socket that a client asks for in place of a host; `target` is then a sentinel.
    """

    protocol: NetworkProtocol
    target: Endpoint
    use: Use = field(default=Tunnel(), repr=False)
    method: str | None = None
    client_address: str | None = None
    scope: ClientScope = UNSCOPED
    socket_path: str | None = field(default=None, repr=False)

    @property
    def command(self) -> str | None:
        """The command that asks, when it has a way in of its own."""
        return self.scope.command

    @property
    def exec_policy_hint(self) -> str | None:
        """What the embedding code said of the command."""
        return self.scope.exec_policy_hint

    @property
    def environment_id(self) -> str | None:
        """Where the command runs, in the embedding code's words."""
        return self.scope.environment_id

    @property
    def host(self) -> str:
        """The canonical host: lower case, A-labels, no brackets (spec A2.1)."""
        return self.target.host.text

    @property
    def port(self) -> int:
        """The port that was asked for, 1 to 65535."""
        return self.target.port


@dataclass(frozen=True, slots=True)
class Ruling:
    """One step's answer; each becomes exactly one audit event (spec B10.3)."""

    decision: Decision
    reason: str
    source: DecisionSource
    scope: PolicyScope
    rule: str | None = None
    override: bool = False


@dataclass(frozen=True, slots=True)
class Allowed:
    """Go ahead, to one of exactly these addresses (spec A3 steps 7 and 8), or to the name through `upstream`.

    `inspect`: the tunnel must be read by the engine. `hook`: the hook that matched an HTTPS request. Behind an upstream
    proxy there may be no address: the name is unknown here, or it was not `looked_up` because the policy does not mind.
    `socket`: the request goes to this unix socket, and to no address.
    """

    request_id: str
    request: NetworkPolicyRequest
    rulings: tuple[Ruling, ...]
    addresses: tuple[IPAddress, ...]
    inspect: bool = False
    hook: HookMatch | None = None
    upstream: UpstreamProxy | None = None
    looked_up: bool = True
    socket: SocketFile | None = None


@dataclass(frozen=True, slots=True)
class Blocked:
    """The policy says no; the last ruling says why."""

    request_id: str
    request: NetworkPolicyRequest
    rulings: tuple[Ruling, ...]

    @property
    def ruling(self) -> Ruling:
        return self.rulings[-1]

    @property
    def reason(self) -> str:
        return self.rulings[-1].reason


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Allowed, but the name has no address: `502`, never a block (spec A3)."""

    request_id: str
    request: NetworkPolicyRequest
    rulings: tuple[Ruling, ...]
    message: str


class Outage(StrEnum):
    """Why nothing can be decided, in the words of the log."""

    BROKEN_CONFIGURATION = "the configuration is broken"
    NO_AUDIT_LOG = "the audit log cannot be written"


@dataclass(frozen=True, slots=True)
class Unavailable:
    """Nothing is decided for now: `500` `error`, until what is broken was repaired (spec A1.6, M06)."""

    request_id: str
    request: NetworkPolicyRequest
    outage: Outage = Outage.BROKEN_CONFIGURATION


Verdict = Allowed | Blocked | Unresolved | Unavailable
