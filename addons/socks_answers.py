"""What a SOCKS5 client is told of a verdict or a dial: one byte of RFC 1928, as spec A5 chooses it."""

from __future__ import annotations

import socket
from typing import assert_never

from codex_network_proxy.policy.decision import Blocked, Unavailable, Unresolved
from codex_network_proxy.policy.responses import Refusal
from codex_network_proxy.socks.dialler import DialFailure
from codex_network_proxy.socks.protocol import ReplyCode, reply

_DIAL_FAILURES = {
    DialFailure.REFUSED: ReplyCode.CONNECTION_REFUSED,
    DialFailure.TIMED_OUT: ReplyCode.TIMED_OUT,
    DialFailure.HOST_UNREACHABLE: ReplyCode.HOST_UNREACHABLE,
    DialFailure.NETWORK_UNREACHABLE: ReplyCode.NETWORK_UNREACHABLE,
    DialFailure.OTHER: ReplyCode.GENERAL_FAILURE,
}


def granted(upstream: socket.socket) -> bytes:
    """The tunnel stands; names our own end of it."""
    try:
        bound = upstream.getsockname()
    except OSError:  # gone already: whoever uses it will see
        bound = None
    # The bridge to an upstream proxy that wants TLS has no address.
    return reply(ReplyCode.SUCCEEDED, bound) if isinstance(bound, tuple) else reply(ReplyCode.SUCCEEDED)


def refused(verdict: Refusal) -> bytes:
    match verdict:
        case Blocked():
            return reply(ReplyCode.NOT_ALLOWED)
        case Unresolved():
            return reply(ReplyCode.HOST_UNREACHABLE)
        case Unavailable():
            return reply(ReplyCode.GENERAL_FAILURE)
        case _:
            assert_never(verdict)


def unreachable(kind: DialFailure) -> bytes:
    return reply(_DIAL_FAILURES[kind])
