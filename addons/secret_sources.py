"""Where the secrets of hooks come from: this process's environment, and files that only their owner can read.

The module is not called `secrets`: this folder comes first on the engine's module path, and the standard library has
a module of that name.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from codex_network_proxy.policy.errors import ConfigProblem, SecretUnavailable
from codex_network_proxy.policy.header_edits import Injection, resolve_injection
from codex_network_proxy.policy.hooks import HookTable
from codex_network_proxy.policy.interfaces import SecretSource

SIZE_LIMIT = 64 * 1024
"""Bytes of a secret file. Servers refuse headers far shorter than this."""

SETTLED_NS = 2_000_000_000
"""Age at which a file's time stamps tell two versions apart, also where they are kept in whole seconds."""

_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class _Kept:
    version: tuple[int, ...]
    text: str = field(repr=False)


class EnvironmentSecrets:
    """Reads secrets whenever one is asked for (the policy's `SecretSource`).

    A file is read again when it has changed and a variable is looked up each time; a rotated token needs no restart.
    `owners` are the ids of the users whose files are taken, by default root and the one running this process.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        owners: Collection[int] | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._environ = environ
        self._owners = (0, os.geteuid()) if owners is None else owners
        self._now_ns = now_ns
        self._files: dict[str, _Kept] = {}

    def environment(self, name: str) -> str:
        """The variable's value, verbatim; it may be empty. Raises `SecretUnavailable`."""
        value = self._environ.get(name)
        if value is None:
            raise SecretUnavailable(f"missing required environment variable {name}")
        return value

    def file(self, path: str) -> str:
        """The file's text without white space around it; it may be empty.

        `path` is absolute; symbolic links are followed and the file they lead to is judged: a regular file of this
        user or root, closed to group and others, at most 64 KiB of UTF-8. Raises `SecretUnavailable`, whose text
        says what to do and never shows the content.
        """
        try:
            return self._read(path).text
        except _Refused as refused:
            message = str(refused)
        except (OSError, ValueError) as error:
            message = getattr(error, "strerror", None) or "it is not a usable path"
        self._files.pop(path, None)
        raise SecretUnavailable(f"failed to read secret file {path}: {message}")

    def _read(self, path: str) -> _Kept:
        if not os.path.isabs(path):
            raise _Refused("write an absolute path")
        kept = self._files.get(path)
        if kept and kept.version == _version(os.stat(path)):
            return kept
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            self._check(path, status)
            fresh = _Kept(_version(status), _decode(file.read(SIZE_LIMIT + 1)))
        # A file changed a moment ago may change again without its time stamps showing it.
        if self._now_ns() - max(status.st_ctime_ns, status.st_mtime_ns) > SETTLED_NS:
            self._files[path] = fresh
        return fresh

    def _check(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("it is not a regular file")
        if status.st_uid not in self._owners:
            raise _Refused(f"it belongs to user {status.st_uid}; it must be yours or root's")
        if status.st_mode & _OTHERS:
            raise _Refused(f"group or others can read or write it; run: chmod 600 {shlex.quote(path)}")


class _Refused(Exception):
    """Why a file is not taken; never holds its content."""


def _open(path: str, flags: int) -> int:
    """A pipe or a terminal in the place of the file must not hold up the proxy."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _version(status: os.stat_result) -> tuple[int, ...]:
    """Differs when the file, its content, its owner or its mode have changed."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def _decode(data: bytes) -> str:
    """Raises outside the handler: the decoder's error carries the whole content."""
    if len(data) > SIZE_LIMIT:
        raise _Refused(f"it is larger than {SIZE_LIMIT // 1024} KiB")
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError:
        pass
    raise _Refused("it is not UTF-8 text")


def verify_all(table: HookTable, secrets: SecretSource) -> list[ConfigProblem]:
    """Everything that keeps a hook's secrets from being sent, for the start with interception on (spec A1.3)."""
    injections = [injection for hook in table.hooks for injection in hook.edits.inject]
    return [problem for injection in injections if (problem := _verify(injection, secrets))]


def _verify(injection: Injection, secrets: SecretSource) -> ConfigProblem | None:
    try:
        resolve_injection(injection, secrets)
    except SecretUnavailable as error:
        message = f"failed to compile injected header {injection.name}: {error}"
        place = injection.place
        return ConfigProblem(place.path, message, line=place.line, file=place.file)
    return None
