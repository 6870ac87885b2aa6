"""A growing file of JSON lines, read on from where the last reading ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Lines:
    """Complete lines only; the file may not exist yet, and may be replaced by a new one that starts over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def more(self) -> list[dict[str, Any]]:
        """What was appended since the last call."""
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            complete = file.read().rpartition(b"\n")[0]
        self._offset += len(complete) + bool(complete)
        return [json.loads(line) for line in complete.split(b"\n") if line]
