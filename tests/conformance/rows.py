"""Rows as values. The id names the security case (a letter and a number) and says what is shown in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from tests.kit.doors import DOORS, FAILED, PASSED, REFUSED
from tests.kit.policies import OPEN, Policy

__all__ = ["DENIED", "FAILED", "LOCAL", "NOT_ALLOWED", "PASSED", "REFUSED", "HostRow", "RawRow", "each", "through"]

NOT_ALLOWED, LOCAL, DENIED = "not_allowed", "not_allowed_local", "denied"


@dataclass(frozen=True, slots=True)
class HostRow:
    """A target, as the very bytes a client sends, and the outcomes that are right: the same ones on every door.

    `port` is a number on the wire; without one it is the shared origin's.
    """

    id: str
    host: bytes
    right: tuple[str, ...]
    policy: Policy = OPEN
    port: bytes | None = None


@dataclass(frozen=True, slots=True)
class RawRow:
    """A request, byte for byte, that must be refused without anything reaching an origin.

    `{at}` stands for `allowed.test` and the shared origin's port, `{port}` for that port. `status` lists the right
    answers; none means that the connection is closed without one. `unseen` must never arrive at the origin.
    """

    id: str
    request: bytes
    status: tuple[int, ...] = (400,)
    text: str | None = None
    unseen: bytes = b""
    policy: Policy = OPEN


def each(rows: Sequence[RawRow]) -> pytest.MarkDecorator:
    """Parametrises a test over `rows` as `row`."""
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in rows])


def through(rows: tuple[HostRow, ...]) -> pytest.MarkDecorator:
    """Parametrises a test over `rows` and the doors at which each of them can be said."""
    pairs = [(door, row) for row in rows for door in DOORS if door.can_ask(row.host, row.port)]
    return pytest.mark.parametrize(
        ("door", "row"), [pytest.param(door, row, id=f"{door.name}: {row.id}") for door, row in pairs]
    )
