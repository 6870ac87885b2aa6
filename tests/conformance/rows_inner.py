"""Rows for requests inside intercepted tunnels, and the hooks that they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from tests.kit.doors import FAILED, PASSED, REFUSED
from tests.kit.hooks import API, CANARY, OTHER, RAW, Hook, Inject, Lists, inspecting
from tests.kit.inner import CUT, INNER, INNER_DOORS, INNER_H2, Inner, InnerDoor, Pairs
from tests.kit.policies import Policy

__all__ = [
    "API", "BEARER", "CUT", "FAILED", "FULL", "HOOK_DENIED", "INNER", "INNER_H2", "LIMITED", "METHOD", "OTHER",
    "PASSED", "RAW", "REFUSED", "H2Row", "InnerRow", "RawInnerRow", "get", "inner_rows", "post",
]  # fmt: skip

HOOK_DENIED, METHOD, MITM = "mitm_hook_denied", "method_not_allowed", "mitm_required"
BEARER = f"Bearer {CANARY}"
TOKEN = (Inject(),)
PUBLIC = "/repos/public/"

# One host for each kind of hook, so that all rows meet the same two proxies.
HOOKS = (
    Hook(API, ("POST", "PUT"), ("/repos/openai/",), strip=("x-strip", "x_under"), inject=TOKEN),
    Hook("prefix.allowed.test", ("POST",), ("/repos/openai",), inject=TOKEN),
    Hook("query.allowed.test", ("GET",), ("/repos/",), query=(("state", ("open", "closed", "in progress")),)),
    Hook("two.allowed.test", ("GET",), ("/repos/",), query=(("a", ("1",)), ("b", ("pattern:x*z", "literal:*")))),
    Hook(
        "headers.allowed.test",
        ("GET",),
        ("/repos/",),
        headers=(("X-GitHub-Api-Version", ("2022-11-28",)), ("x-present", ()), ("x-glob", ("pattern:v1.*",))),
    ),
    Hook("hops.allowed.test", ("GET",), ("/repos/",), headers=(("x-forwarded-for", ()), ("via", ()))),
    Hook("ordered.allowed.test", ("GET",), (PUBLIC,)),
    Hook("ordered.allowed.test", ("GET", "POST"), ("/repos/",), inject=TOKEN),
    Hook("reversed.allowed.test", ("GET", "POST"), ("/repos/",), inject=TOKEN),
    Hook("reversed.allowed.test", ("GET",), (PUBLIC,)),
    Hook("globs.allowed.test", ("GET",), ("pattern:/repos/*/issues", "pattern:/a/**/z", "literal:/b/*")),
    Hook("git.allowed.test", ("GET",), ("/repos/x.git/info/refs",), query=(("service", ("git-upload-pack",)),)),
    Hook("git.allowed.test", ("POST",), ("pattern:/repos/x.git/git-upload-pack",)),
    Hook(
        "cred.allowed.test",
        ("GET", "POST"),
        strip=("Cookie", "X-Api-Key", "authorization"),
        inject=(
            Inject("x-first", prefix=""),
            Inject("X-Twice", prefix="old "),
            Inject("x-twice", prefix="new "),
            Inject("host", prefix=""),
            Inject("Authorization", prefix="token "),
        ),
    ),
    Hook("ws.allowed.test", ("GET", "POST", "OPTIONS"), ("/ws", "/echo", "/raw/", "/repos/", "/bad-ws")),
    Hook("any.allowed.test", ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH", "PROPFIND"), inject=TOKEN),
)
FULL = inspecting(*HOOKS)
LIMITED = inspecting(*HOOKS, mode="limited")


@dataclass(frozen=True, slots=True)
class InnerRow:
    """A request in a tunnel to `host`, and the outcomes that are right: the same over HTTP/1.1 and HTTP/2.

    `{port}` stands for the shared HTTPS origin's. A request that passes must arrive with its method and target
    unchanged; `at_origin` lists every value that a field must have there, none meaning that it is gone.
    """

    id: str
    inner: Inner
    right: tuple[str, ...] = (PASSED,)
    host: str = API
    policy: Policy = FULL
    at_origin: Lists = ()
    text: str | None = None
    doors: tuple[InnerDoor, ...] = INNER_DOORS


@dataclass(frozen=True, slots=True)
class RawInnerRow:
    """HTTP/1.1 bytes in a tunnel to `host`. `{at}` stands for the tunnel's target, `{port}` for its port.

    Whatever the outcome, `unseen` must never arrive at the origin.
    """

    id: str
    request: bytes
    right: tuple[str, ...] = (REFUSED, CUT)
    host: str = API
    policy: Policy = FULL
    text: str | None = None
    unseen: bytes = b"/repos"


@dataclass(frozen=True, slots=True)
class H2Row:
    """HTTP/2 fields in a tunnel to `host`, and what follows them. `{at}` and `{port}` as in `RawInnerRow`.

    `arrives` is the number of requests that the origin may see in all.
    """

    id: str
    fields: Pairs
    right: tuple[str, ...] = (REFUSED, CUT)
    body: bytes = b""
    trailers: Pairs = ()
    host: str = API
    policy: Policy = FULL
    arrives: int = 0
    text: str | None = None


def post(path: str | bytes, *fields: tuple[bytes, bytes], authority: bytes | None = None, body: bytes = b"") -> Inner:
    return Inner(b"POST", path if isinstance(path, bytes) else path.encode(), fields, body, authority)


def get(path: str | bytes, *fields: tuple[bytes, bytes], authority: bytes | None = None) -> Inner:
    return Inner(b"GET", path if isinstance(path, bytes) else path.encode(), fields, b"", authority)


def inner_rows(
    rows: Sequence[InnerRow], variant: Callable[[InnerDoor], InnerDoor] = lambda door: door
) -> pytest.MarkDecorator:
    """Parametrises a test over `rows` and the doors each of them is for, or a variant of these."""
    pairs = [(variant(door), row) for row in rows for door in row.doors]
    return pytest.mark.parametrize(
        ("door", "row"), [pytest.param(door, row, id=f"{door.name}: {row.id}") for door, row in pairs]
    )
