"""The header edits of a hook: secrets as references, read at the moment of sending (spec A4.9, B7.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .errors import SecretUnavailable
from .interfaces import SecretSource
from .settings import NOWHERE, Place

FRAMING_HEADERS = frozenset({"connection", "content-length", "host", "transfer-encoding"})
"""Headers that say where a request goes and where it ends. Edits of them have no effect (spec B6.5)."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")

Field = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is, never the secret: an environment variable or an absolute path."""

    env: str | None = None
    file: str | None = None

    def read(self, secrets: SecretSource) -> str:
        """The secret. Raises `SecretUnavailable`."""
        match (self.env, self.file):
            case (str() as name, None):
                return secrets.environment(name)
            case (None, str() as path):
                return secrets.file(path)
            case _:
                raise SecretUnavailable("expected exactly one of secret_env_var or secret_file")


@dataclass(frozen=True, slots=True)
class Injection:
    """One header to set: lower-case name, and where the text after `prefix` comes from."""

    name: str
    secret: SecretRef
    prefix: str = field(default="", repr=False)
    place: Place = field(default=NOWHERE, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """What a hook does to a request: names to remove, then headers to set, in order. Holds no secret."""

    strip: tuple[str, ...] = ()
    inject: tuple[Injection, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class ResolvedEdits:
    """Edits with their secrets read. Short-lived: resolve, apply, forget. The `repr` shows names only."""

    remove: frozenset[bytes]
    inject: tuple[Field, ...]

    def __repr__(self) -> str:
        injected = ", ".join(name.decode() for name, _ in self.inject)
        removed = ", ".join(sorted(name.decode() for name in self.remove))
        return f"ResolvedEdits(remove=({removed}), inject=({injected}))"


def compile_edits(strip: Sequence[str], inject: Sequence[Injection]) -> HeaderEdits:
    """Lower-cases the names and leaves out those in `FRAMING_HEADERS`."""
    names = (name.lower() for name in strip)
    injections = (replace(entry, name=entry.name.lower()) for entry in inject)
    return HeaderEdits(
        tuple(name for name in names if name not in FRAMING_HEADERS),
        tuple(entry for entry in injections if entry.name not in FRAMING_HEADERS),
    )


def resolve_edits(edits: HeaderEdits, secrets: SecretSource) -> ResolvedEdits:
    """Reads every secret of `edits`; the last of two injections of one name wins.

    Raises `SecretUnavailable` when one cannot be read or is not a header value. Nothing may be sent then.
    """
    injected = dict(resolve_injection(injection, secrets) for injection in edits.inject)
    stripped = (name.encode("ascii", "replace") for name in edits.strip)
    return ResolvedEdits(frozenset((*stripped, *injected)), tuple(injected.items()))


def resolve_injection(injection: Injection, secrets: SecretSource) -> Field:
    """The header field of one injection. Raises `SecretUnavailable`, whose text never shows the value."""
    # Spaces around a value are not part of it (RFC 9110 5.5); an empty secret leaves `Bearer ` with one.
    value = f"{injection.prefix}{_read(injection, secrets)}".strip(" ")
    if not (_NAME.fullmatch(injection.name) and _VALUE.fullmatch(value)):
        raise SecretUnavailable(f"invalid value for injected header {injection.name}")
    return injection.name.encode("ascii"), value.encode("ascii")


def _read(injection: Injection, secrets: SecretSource) -> str:
    """Raises outside the handlers: what a failing source says may quote the secret, so it is not chained."""
    try:
        return injection.secret.read(secrets)
    except SecretUnavailable as refused:
        message = str(refused)
    except Exception:
        message = f"failed to read the secret for injected header {injection.name}"
    raise SecretUnavailable(message)


def apply(fields: Sequence[Field], resolved: ResolvedEdits) -> list[Field]:
    """The request's header fields after the edits: every spelling of a removed or injected name is gone, then the
    injected ones follow in order. The rest keeps its order and its duplicates.

    An underscore is another name: `x_api_key` is not `x-api-key`.
    """
    kept = [item for item in fields if item[0].strip().lower() not in resolved.remove]
    return [*kept, *resolved.inject]
