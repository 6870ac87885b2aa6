"""What a process under test may know of the outside: names, and a log of what it asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kit.lines import Lines

Answer = Sequence[str] | str
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Happening:
    """One look-up, dial or bind of the process under test."""

    event: str
    host: str
    port: int | None = None
    pid: int = 0


class World:
    """Hands names to a process and reads back what it did. See `sitecustomize` beside this file."""

    def __init__(self, folder: Path, names: Mapping[str, Sequence[Answer]] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._log = Lines(folder / "log.jsonl")
        self._happenings: list[Happening] = []
        self.set_names(names or {})

    def set_names(self, names: Mapping[str, Sequence[Answer]]) -> None:
        """`{"a.test": [["127.0.0.1"]]}`; several answers are given one after the other; "hang" never answers."""
        draft = self.folder / "names.new"
        draft.write_text(json.dumps(names))
        draft.replace(self.folder / "names.json")

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(HERE), "KIT_WORLD": str(self.folder)}

    def happenings(self) -> list[Happening]:
        self._happenings += [Happening(**value) for value in self._log.more()]
        return self._happenings

    def lookups(self) -> list[str]:
        return [one.host for one in self.happenings() if one.event == "lookup"]

    def dials(self) -> list[tuple[str, int]]:
        return self._addresses("connect")

    def socket_dials(self) -> list[str]:
        """The paths of unix sockets that were connected to."""
        return [one.host for one in self.happenings() if one.event == "connect to socket"]

    def binds(self) -> list[tuple[str, int]]:
        return self._addresses("bind")

    def _addresses(self, event: str) -> list[tuple[str, int]]:
        return [(one.host, one.port or 0) for one in self.happenings() if one.event == event]
