"""Two planted secrets, and the search for them."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from .hooks import API, CANARY, SECRET_VARIABLE, Hook, Inject, inspecting
from .policies import Policy
from .tls import TestAuthority

FILED = "canary-0d93a7c415"
"""The secret in a file."""
BY_FILE = "file.allowed.test"
PATHS = ("/t", "/ws", "/raw/", "/echo")


def planted(secret: Path) -> Policy:
    """Two hooks, one for each kind of source."""
    return inspecting(
        Hook(API, ("GET", "POST"), PATHS, inject=(Inject(),)),
        Hook(BY_FILE, ("GET", "POST"), PATHS, inject=(Inject("x-key", prefix="", file=str(secret)),)),
    )


def filed(path: Path, content: str) -> Path:
    """A secret file as it should be: its owner's alone."""
    path.touch(0o600)
    path.write_text(content + "\n")
    return path


def spellings(value: str) -> list[bytes]:
    """The secret as it is, and as it looks in other coats."""
    plain = value.encode()
    shifted = [base64.b64encode(b"x" * lead + plain)[4:-4] for lead in (0, 1, 2)]
    return [plain, plain.hex().encode(), quote(value, safe="").encode(), plain[::-1], *shifted]


def check_absent(places: Iterable[tuple[str, bytes]]) -> None:
    """No secret, in no spelling, in any of the places."""
    found = [where for where, data in places for value in (CANARY, FILED) for form in spellings(value) if form in data]
    assert not found


def files_below(folder: Path) -> list[tuple[str, bytes]]:
    """Every file of the tree, for `check_absent`."""
    return [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


def variables(authority: TestAuthority) -> dict[str, str]:
    """What a proxy with these hooks needs in its environment."""
    return {"SSL_CERT_FILE": str(authority.bundle), SECRET_VARIABLE: CANARY}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
