"""A plain request as an upstream proxy wants it: in absolute form, with our credentials and nobody else's."""

from __future__ import annotations

from dataclasses import dataclass, field

from codex_network_proxy.policy.decision import Allowed, HttpUse

_PLAIN_PORT = 80


@dataclass(frozen=True, slots=True)
class ProxyHop:
    """What the requests on one connection to an upstream proxy have in common.

    `origin` goes before the path; `authorization` is a secret that is only ever put on the wire.
    """

    origin: bytes
    authorization: bytes | None = field(default=None, repr=False)

    def target(self, path: bytes) -> bytes:
        """The request target (RFC 9112 section 3.2.4 for the asterisk)."""
        return self.origin if path == b"*" else self.origin + path

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        return [(b"proxy-authorization", self.authorization)] if self.authorization else []


def forwards(verdict: Allowed) -> bool:
    """Whether the upstream proxy is sent the request itself, as plain HTTP is. All else goes through a tunnel."""
    use = verdict.request.use
    return verdict.upstream is not None and isinstance(use, HttpUse) and not use.secure and use.upgrade is None


def hop_of(verdict: Allowed) -> ProxyHop:
    """For a request that is forwarded."""
    assert verdict.upstream
    target, authorization = verdict.request.target, verdict.upstream.authorization
    authority = target.host.bracketed if target.port == _PLAIN_PORT else str(target)
    return ProxyHop(f"http://{authority}".encode(), authorization.encode() if authorization else None)
