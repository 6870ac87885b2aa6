"""What a command did not get: blocks, with the smallest rule that would let each pass, and what failed all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from codex_network_proxy.addons.upstream_errors import UPSTREAM_FAILURE
from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import Blocked, BlockReason, IPAddress, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.engine import LOCALHOST, World
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.explain import explain
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.origins import Origins
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.text import numbered, printable

SHOWN = 20
"""Different blocks that are listed; the rest is counted."""

REASON_LIMIT = 60

_SOCKS = (NetworkProtocol.SOCKS5_TCP, NetworkProtocol.SOCKS5_UDP)


WIDEST = 48
"""Characters for which a column makes room; what is longer moves the rest of its own line only."""


@dataclass(frozen=True, slots=True)
class Block:
    """One kind of block: what was asked for, and why it was refused."""

    target: str
    why: str


@dataclass(frozen=True, slots=True)
class Failure:
    """One kind of failure: what passed, and why nothing came of it."""

    target: str
    why: str


Rule = Callable[[Blocked], Awaitable[str]]
"""Says what would let a blocked request pass."""


class Blocks:
    """Counts what one run did not get. The request for `canary` tries the fence and does not count; its id is kept."""

    def __init__(self, canary: str) -> None:
        self.canary = canary
        self.canary_id: str | None = None
        self._counts: Counter[Block] = Counter()
        self._examples: dict[Block, Blocked] = {}
        self._failures: Counter[Failure] = Counter()

    def seen(self, verdict: Blocked, _: BlockedRequest) -> None:
        """An observer of blocks."""
        if verdict.request.host == self.canary:
            self.canary_id = verdict.request_id
        else:
            block = describe(verdict)
            self._counts[block] += 1
            self._examples.setdefault(block, verdict)

    def failed(self, request: NetworkPolicyRequest, why: str) -> None:
        """An observer of failures."""
        self._failures[Failure(_target(request), why.removeprefix(f"{UPSTREAM_FAILURE}: "))] += 1

    async def report(self, rule: Rule) -> list[str]:
        """The tables of blocks and of failures, a line each, the most frequent first; nothing where there is none."""
        rows = [(block.target, block.why, await rule(self._examples[block])) for block, _ in _shown(self._counts)]
        return [
            *_table("{} blocked; what would allow it stands on the right", self._counts, rows),
            *_table(
                "{} allowed and failed (502), for which no rule is to blame",
                self._failures,
                [(failure.target, failure.why) for failure, _ in _shown(self._failures)],
            ),
        ]


def _shown[T](counts: Counter[T]) -> list[tuple[T, int]]:
    return counts.most_common(SHOWN)


def _table[T](title: str, counts: Counter[T], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """One row for each that is shown, in this order."""
    if not rows:
        return
    yield f"codex-proxy: {title.format(counts.total())}"
    counted = [(f"{count}x", *row) for row, (_, count) in zip(rows, _shown(counts), strict=True)]
    widths = [min(max(map(len, column)), WIDEST) for column in zip(*counted, strict=True)]
    for count, *row in counted:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths[1:], strict=True))
        yield f"  {count:>{widths[0]}}  {'  '.join(cells)}".rstrip()
    if len(counts) > SHOWN:
        yield f"  and {numbered(len(counts) - SHOWN, 'other')}, see the audit log"


def _target(request: NetworkPolicyRequest) -> str:
    return str(request.target) if request.socket_path is None else printable(request.socket_path)


def describe(verdict: Blocked) -> Block:
    """The block in a few words, for the person who owns the rules."""
    target, host = _target(verdict.request), verdict.request.target.host
    method = printable(verdict.request.method or "", REASON_LIMIT)
    match verdict.reason:
        case BlockReason.NOT_ALLOWED:
            return Block(target, "not in allowed_domains")
        case BlockReason.DENIED:
            return Block(target, f'denied_domains has "{verdict.ruling.rule}"')
        case BlockReason.NOT_ALLOWED_LOCAL if host.is_literal or host.text == LOCALHOST:
            return Block(target, "a local address")
        case BlockReason.NOT_ALLOWED_LOCAL:
            return Block(target, "resolves to a local address")
        case BlockReason.METHOD_NOT_ALLOWED if verdict.request.protocol in _SOCKS:
            return Block(target, "limited mode passes no SOCKS5")
        case BlockReason.METHOD_NOT_ALLOWED:
            return Block(target, f"limited mode, {method} may write")
        case BlockReason.MITM_REQUIRED:
            return Block(target, "has to be read")
        case BlockReason.MITM_HOOK_DENIED:
            return Block(target, f"no hook matches this {method}")
        case _:
            return Block(target, printable(verdict.reason, REASON_LIMIT))


class _NoNames:
    """Names that were refused have not been looked up, and are not for the sake of a table either."""

    async def resolve(self, name: str, port: int) -> Sequence[IPAddress]:
        raise ResolutionFailed(f"could not resolve {name}")


async def smallest_rule(verdict: Blocked, settings: NetworkSettings, origins: Origins, *, limited: bool) -> str:
    """What would let the request pass: an option of `run` where that is enough, else changes of the file.

    `limited`: the mode is that of an option, not of the file.
    """
    if limited and verdict.reason == BlockReason.METHOD_NOT_ALLOWED:
        return "run it without --mode limited"
    if limited:
        settings = replace(settings, mode=NetworkMode.FULL)
    world = World(_NoNames(), lambda: "", lambda address, port: False)
    found = await explain([verdict.request], settings, world, origins)
    if not isinstance(found.verdict, Blocked):
        # It was the look-up that told, or the configuration has changed since.
        return "allow_local_binding = true" if verdict.reason == BlockReason.NOT_ALLOWED_LOCAL else "nothing any more"
    target, changes = verdict.request.target, found.remedy.changes
    if changes == (f'add "{target}" to allowed_domains',):
        return f"--allow {target}"
    return "; ".join(changes) or found.remedy.obstacle or "see the audit log"
