"""Which HTTP requests a mode lets through (spec B5)."""

from __future__ import annotations

from enum import StrEnum

from .decision import HttpUse

READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class NetworkMode(StrEnum):
    """How far an allowed host may be used: to read only, or in full."""

    LIMITED = "limited"
    FULL = "full"


def method_allowed(mode: NetworkMode, method: str) -> bool:
    """Whether `mode` lets a request with `method` pass.

    Compares the exact case, as origins do (RFC 9110 section 9.1): `get` is not `GET`. Bodies and upgrades are
    judged by `reads_only`.
    """
    # Anything that is not plainly "full" is clamped, so a mode added later starts out closed.
    return mode is NetworkMode.FULL or method in READING_METHODS


def reads_only(mode: NetworkMode, use: HttpUse) -> bool:
    """Whether `mode` lets this request pass: a body or an upgrade writes, whatever the method is called (spec A4.2)."""
    return mode is NetworkMode.FULL or (method_allowed(mode, use.method) and not use.has_body and use.upgrade is None)
