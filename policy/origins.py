"""Where in its file each part of a configuration stands, for those who explain it."""

from __future__ import annotations

from .config_problems import Document
from .lint import Subject
from .patterns import DomainPattern
from .profiles import ProfileTable
from .settings import Place


class Origins:
    """The places of entries and keys; `None` for what the file does not say. Counts lines only when asked."""

    def __init__(self, document: Document, selected: ProfileTable | None, subject: Subject | None) -> None:
        self._document = document
        self._selected = selected
        self._subject = subject

    def allowed(self, pattern: DomainPattern) -> Place | None:
        """Where an entry of the allowlist stands first."""
        return self._of_entry(pattern, denied=False)

    def denied(self, pattern: DomainPattern) -> Place | None:
        return self._of_entry(pattern, denied=True)

    def key(self, name: str) -> Place | None:
        """Where a key of the network table stands, in the profile or in one that it extends."""
        if self._selected is None or name not in self._selected.values:
            return None
        return self._document.place(self._selected.source((name,)))

    def _of_entry(self, pattern: DomainPattern, *, denied: bool) -> Place | None:
        if self._selected is None or self._subject is None:
            return None
        entries = self._subject.denied if denied else self._subject.allowed
        path = entries.get(pattern)
        return None if path is None else self._document.place(self._selected.source(path))


NO_ORIGINS = Origins(Document("", ""), None, None)
"""For settings that come from no file, or from one that has changed since."""
