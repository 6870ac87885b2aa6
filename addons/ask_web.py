"""Questions in mitmweb: an intercepted entry each. To resume it is to allow, to abort it to deny.

A marked entry that is resumed allows the host for the whole run.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mitmproxy import http

from codex_network_proxy.policy.decision import NetworkProtocol

from .asking import Answer, Question
from .web_entries import entry_of, shown_flows

COMMENT = "allow? resume: once; mark, then resume: for this run; abort: no"


class AskEntry(http.HTTPFlow):
    """An entry without a connection, that waits for a person like any intercepted one."""

    answer: Callable[[Answer], None] | None = None

    def resume(self) -> None:
        waited = self.intercepted
        super().resume()  # type: ignore[no-untyped-call]  # the engine's own
        if waited:
            self._settle(Answer.RUN if self.marked else Answer.ONCE)

    def kill(self) -> None:
        super().kill()  # type: ignore[no-untyped-call]  # the engine's own
        self._settle(Answer.DENY)

    def _settle(self, said: Answer) -> None:
        answer, self.answer = self.answer, None
        if answer is not None:
            answer(said)


# The engine names types of flows after classes; for mitmweb, and in a saved file, this is one of its own.
AskEntry.type = http.HTTPFlow.type


class WebQuestions:
    """Shows questions in mitmweb as long as it runs."""

    def __init__(self) -> None:
        self._entries: dict[int, AskEntry] = {}

    @property
    def open(self) -> bool:
        return shown_flows() is not None

    def show(self, question: Question, answer: Callable[[Answer], None]) -> None:
        view = shown_flows()
        if view is None:
            return
        entry = entry_of(AskEntry, question.request, time.time())
        if question.request.protocol is NetworkProtocol.HTTP:
            entry.request.method, entry.request.scheme = question.request.method or question.door, "http"
        entry.answer, entry.comment, entry.live = answer, COMMENT, True
        entry.intercept()  # type: ignore[no-untyped-call]  # the engine's own
        self._entries[question.number] = entry
        view.add([entry])

    def withdraw(self, question: Question, outcome: str) -> None:
        """Takes the entry away: what becomes of the request has an entry of its own."""
        entry, view = self._entries.pop(question.number, None), shown_flows()
        if entry is None or view is None:
            return
        entry.answer, entry.live, entry.intercepted, entry.comment = None, False, False, outcome
        # Not at once: mitmweb may be going through its list right now.
        asyncio.get_running_loop().call_soon(view.remove, [entry])

    def close(self) -> None:
        """Leaves the entries where they are; to resume them changes nothing any more."""
        for entry in self._entries.values():
            entry.answer, entry.live = None, False
        self._entries.clear()
