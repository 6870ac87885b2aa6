"""Another addon beside ours, that does in one hook what the test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Other:
    """Another script's addon. `edit` is called in one hook."""

    name = "other"

    def __init__(self, hook: str, edit: Callable[[Any], Any]) -> None:
        setattr(self, hook, edit)
