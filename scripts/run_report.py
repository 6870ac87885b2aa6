"""What was blocked while a command ran, and the smallest rule that would let each pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import Blocked, BlockReason, IPAddress
from codex_network_proxy.policy.engine import LOCALHOST, World
from codex_network_proxy.policy.errors import ResolutionFailed
from codex_network_proxy.policy.explain import explain
from codex_network_proxy.policy.modes import NetworkMode
from codex_network_proxy.policy.origins import Origins
from codex_network_proxy.policy.settings import NetworkSettings
from codex_network_proxy.policy.text import printable

SHOWN = 20
"""Different blocks that are listed; the rest is counted."""

REASON_LIMIT = 60


@dataclass(frozen=True, slots=True)
class Block:
    """One kind of block: what was asked for, and why it was refused."""

    target: str
    why: str


Rule = Callable[[Blocked], Awaitable[str]]
"""Says what would let a blocked request pass."""


class Blocks:
    """Counts the blocks of one run. The request for `canary` tries the fence and does not count; its id is kept."""

    def __init__(self, canary: str) -> None:
        self.canary = canary
        self.canary_id: str | None = None
        self._counts: Counter[Block] = Counter()
        self._examples: dict[Block, Blocked] = {}

    def seen(self, verdict: Blocked, _: BlockedRequest) -> None:
        """An observer of blocks."""
        if verdict.request.host == self.canary:
            self.canary_id = verdict.request_id
        else:
            block = describe(verdict)
            self._counts[block] += 1
            self._examples.setdefault(block, verdict)

    async def report(self, rule: Rule) -> list[str]:
        """The table, a line each, the most frequent first; nothing when nothing was blocked."""
        if not self._counts:
            return []
        rows = [(f"{count}x", block, await rule(self._examples[block])) for block, count in self._shown()]
        times = max(len(count) for count, _, _ in rows)
        targets = max(len(block.target) for _, block, _ in rows)
        whys = max(len(block.why) for _, block, _ in rows)
        lines = [f"codex-proxy: {sum(self._counts.values())} blocked; what would allow it stands on the right"]
        for count, block, repair in rows:
            lines.append(f"  {count:>{times}}  {block.target:<{targets}}  {block.why:<{whys}}  {repair}")
        if len(self._counts) > SHOWN:
            lines.append(f"  and {len(self._counts) - SHOWN} others, see the audit log")
        return lines

    def _shown(self) -> list[tuple[Block, int]]:
        return self._counts.most_common(SHOWN)


def describe(verdict: Blocked) -> Block:
    """The block in a few words, for the person who owns the rules."""
    target, host = str(verdict.request.target), verdict.request.target.host
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
