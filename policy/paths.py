"""Request paths that mean the same to every server, and the patterns a hook may put on them (spec A4.5, B7.6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from .errors import InvalidPattern
from .hook_values import Glob, compile_glob, split_syntax

# Everything here is read differently by different servers. `..;x` is a dot segment to servers that drop path
# parameters before they normalise, so a dot segment ends at `;` as well as at `/`.
_AMBIGUOUS = re.compile(
    r"""
      [^\x21-\x7e] | [\\#]
    | %(?:[01][0-9a-f] | 7f | 2f | 5c | 25)
    | %(?![0-9a-f]{2})
    | /(?:\.|%2e){1,2}(?:/ | ; | %3b | \Z)
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)
_NOT_A_QUERY = re.compile(r"[^\x21-\x7e]|#", re.ASCII)


def split_target(target: str) -> tuple[str, str] | None:
    """The path and the query of a request target, or None when no hook may match it (spec A4.5).

    Neither is decoded: what is matched is what is forwarded. The query is empty when there is none.
    """
    path, _, query = target.partition("?")
    if not path.startswith("/") or _AMBIGUOUS.search(path) or _NOT_A_QUERY.search(query):
        return None
    return (path, query) if _is_utf8(path) else None


def _is_utf8(path: str) -> bool:
    """Overlong forms such as `%c0%ae` are a dot to lenient decoders."""
    try:
        unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class PathPatterns:
    """The paths one hook accepts: plain prefixes, and globs over the whole path."""

    prefixes: tuple[str, ...]
    globs: tuple[Glob, ...]

    def match(self, path: str) -> bool:
        """Whether the raw path, as `split_target` gave it, starts with a prefix or is one glob as a whole."""
        if path.startswith(self.prefixes):
            return True
        # Servers that merge slashes count other segments than the glob does.
        return "//" not in path and any(glob.match(path) for glob in self.globs)


def compile_paths(entries: Iterable[str]) -> PathPatterns:
    """Compiles `path_prefixes`: `pattern:` globs, and plain prefixes with or without `literal:`.

    A prefix is a prefix: `/repos/openai` also accepts `/repos/openai-evil` (spec B7.3).
    Raises `InvalidPattern` for an empty entry or a bad glob.
    """
    prefixes: list[str] = []
    globs: list[Glob] = []
    for entry in entries:
        is_glob, text = split_syntax(entry)
        if is_glob:
            globs.append(compile_glob(text, separator="/"))
        elif text:
            prefixes.append(text)
        else:
            raise InvalidPattern("path_prefixes must not contain empty entries")
    return PathPatterns(tuple(prefixes), tuple(globs))
