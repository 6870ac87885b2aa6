"""What was blocked while a command ran, and the smallest rule that would let each pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from codex_network_proxy.policy.blocked import BlockedRequest
from codex_network_proxy.policy.decision import Blocked, BlockReason
from codex_network_proxy.policy.text import printable

SHOWN = 20
"""Different blocks that are listed; the rest is counted."""

REASON_LIMIT = 60


@dataclass(frozen=True, slots=True)
class Block:
    """One kind of block: what was asked for, why it was refused, and what would allow it."""

    target: str
    why: str
    rule: str


class Blocks:
    """Counts the blocks of one run. The request for `canary` tries the fence and does not count; its id is kept."""

    def __init__(self, canary: str) -> None:
        self.canary = canary
        self.canary_id: str | None = None
        self._counts: Counter[Block] = Counter()

    def seen(self, verdict: Blocked, _: BlockedRequest) -> None:
        """An observer of blocks."""
        if verdict.request.host == self.canary:
            self.canary_id = verdict.request_id
        else:
            self._counts[describe(verdict)] += 1

    def report(self) -> Iterator[str]:
        """The table, a line each, the most frequent first; nothing when nothing was blocked."""
        if not self._counts:
            return
        rows = [(f"{count}x", block) for block, count in self._counts.most_common(SHOWN)]
        times, targets, whys = (
            max(map(len, column)) for column in zip(*((count, one.target, one.why) for count, one in rows), strict=True)
        )
        yield f"codex-proxy: {sum(self._counts.values())} blocked; what would allow it stands on the right"
        for count, block in rows:
            yield f"  {count:>{times}}  {block.target:<{targets}}  {block.why:<{whys}}  {block.rule}"
        if len(self._counts) > SHOWN:
            yield f"  and {len(self._counts) - SHOWN} others, see the audit log"


def describe(verdict: Blocked) -> Block:
    """The block in a few words. Names no rule that is not needed: this is for the person who owns the rules."""
    target, host = str(verdict.request.target), verdict.request.target.host
    match verdict.reason:
        case BlockReason.NOT_ALLOWED:
            return Block(target, "not in allowed_domains", f"--allow {target}")
        case BlockReason.DENIED:
            rule = f'"{verdict.ruling.rule}"'
            return Block(target, f"denied_domains has {rule}", f"remove {rule} from denied_domains")
        case BlockReason.NOT_ALLOWED_LOCAL if host.is_literal or host.text == "localhost":
            return Block(target, "a local address", f"--allow {target}")
        case BlockReason.NOT_ALLOWED_LOCAL:
            return Block(target, "resolves to a local address", "allow_local_binding = true")
        case BlockReason.METHOD_NOT_ALLOWED:
            method = printable(verdict.request.method or "", REASON_LIMIT)
            return Block(target, f"limited mode, {method} may write", 'mode = "full"')
        case BlockReason.MITM_REQUIRED:
            return Block(target, "has to be read", "mitm = true, and https://")
        case BlockReason.MITM_HOOK_DENIED:
            method = printable(verdict.request.method or "", REASON_LIMIT)
            return Block(target, f"no hook matches this {method}", f"a hook for {host.text}")
        case _:
            return Block(target, printable(verdict.reason, REASON_LIMIT), "see the audit log")
