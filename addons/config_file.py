"""Finds the configuration file, reads it, and notices when it changes (spec A1, B1.10)."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from codex_network_proxy.policy.config import (
    LintWarning,
    LoadedConfig,
    default_config_text,
    load_config,
    load_with_origins,
)
from codex_network_proxy.policy.errors import ConfigError, ConfigProblem
from codex_network_proxy.policy.origins import NO_ORIGINS, Origins

LARGEST_FILE = 32 * 1024 * 1024
"""Bytes of a configuration file; more is a mistake, such as a device."""

BUILT_IN = "built-in configuration"
"""The name of the built-in profile's text in messages."""


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Which file to read, and what to do without it.

    `home` is where the proxy keeps its own files. `required`: a missing file is an error, not the built-in profile.
    """

    path: Path
    home: Path
    profile: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one state of a file from another without reading it."""

    mtime_ns: int
    size: int
    inode: int
    # Changes with the permissions as well: a file that could not be read may be readable now.
    ctime_ns: int


def find_config(environ: Mapping[str, str], explicit: Path | None = None, profile: str | None = None) -> ConfigSource:
    """`explicit`, or `config.toml` in `CODEX_HOME`, or in `~/.codex`. Raises `ConfigError` for a bad `CODEX_HOME`.

    `profile` overrides the one that the file selects. Reads no file.
    """
    home = _codex_home(environ)
    if explicit is not None:
        return ConfigSource(explicit, home, profile, required=True)
    return ConfigSource(home / "config.toml", home, profile)


def read(source: ConfigSource) -> LoadedConfig:
    """The checked configuration; the built-in profile, with a warning, when there is no file and none is required.

    Raises `ConfigError`.
    """
    text = read_text(source)
    if text is None:
        loaded = load_config(default_config_text(), file=BUILT_IN, profile=source.profile)
        return LoadedConfig(loaded.settings, (_built_in_runs(source), *loaded.warnings), loaded.profile)
    return load_config(text, file=str(source.path), profile=source.profile)


def read_with_origins(source: ConfigSource) -> tuple[LoadedConfig, Origins]:
    """As `read`, and where in the file each part of the configuration stands. Raises `ConfigError`."""
    text = read_text(source)
    file = BUILT_IN if text is None else str(source.path)
    return load_with_origins(default_config_text() if text is None else text, file=file, profile=source.profile)


def fingerprint(source: ConfigSource) -> Fingerprint | None:
    """The state of the file, through links; `None` when there is none, or nobody may look."""
    try:
        state = source.path.stat()
    except (OSError, ValueError):
        return None
    return Fingerprint(state.st_mtime_ns, state.st_size, state.st_ino, state.st_ctime_ns)


class ConfigWatch:
    """One configuration over time: `load` it, ask whether it `changed`, and `load` again.

    Once a file has been seen it is required: removing it must not open what the built-in profile allows.
    """

    def __init__(self, source: ConfigSource) -> None:
        self._source = source
        self._seen: Fingerprint | None = None

    @property
    def source(self) -> ConfigSource:
        return self._source

    def load(self) -> LoadedConfig:
        """`read`, remembering the state of the file, also when it raises `ConfigError`."""
        # Looked at first: what is written while the file is read counts as a change.
        self._seen = fingerprint(self._source)
        if self._seen is not None:
            self._source = replace(self._source, required=True)
        return read(self._source)

    def changed(self) -> bool:
        """Whether the file is another one than at the last `load`: new, edited, replaced, removed."""
        return fingerprint(self._source) != self._seen

    def origins(self) -> Origins:
        """Where each part of the configuration stands, as long as the file is the one that was read."""
        try:
            return NO_ORIGINS if self.changed() else read_with_origins(self._source)[1]
        except ConfigError:
            return NO_ORIGINS


def _codex_home(environ: Mapping[str, str]) -> Path:
    configured = environ.get("CODEX_HOME", "")
    if not configured:
        return _user_home(environ) / ".codex"
    repair = "create that directory, or unset CODEX_HOME"
    try:
        home = Path(configured).resolve(strict=True)
    except (OSError, RuntimeError) as error:
        missing = isinstance(error, FileNotFoundError)
        why = "that path does not exist" if missing else f"that path cannot be followed: {_reason(error)}"
        raise _problem("CODEX_HOME", f'CODEX_HOME points to "{configured}", but {why}; {repair}') from None
    if not home.is_dir():
        message = f'CODEX_HOME points to "{configured}", but that path is not a directory; {repair}'
        raise _problem("CODEX_HOME", message)
    return home


def _user_home(environ: Mapping[str, str]) -> Path:
    if home := environ.get("HOME", ""):
        return Path(home)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        raise _problem("HOME", "neither HOME nor CODEX_HOME is set; write CODEX_HOME=DIRECTORY") from None


def read_text(source: ConfigSource) -> str | None:
    """The file's text, or `None` when it may be, and is, missing."""
    path = source.path
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise _problem(str(path), "is not a regular file; write the configuration to a file and name that")
        if state.st_size > LARGEST_FILE:
            raise _problem(str(path), f"is larger than {LARGEST_FILE} bytes; name a configuration file")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        if source.required or path.is_symlink():
            repair = "write one with `codex-proxy init`, or name another with --config"
            raise _problem(str(path), f"there is no such file; {repair}") from None
        return None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = ConfigProblem("encoding", "is not UTF-8; save the file as UTF-8", line=line, file=str(path))
        raise ConfigError((problem,)) from None
    except (OSError, ValueError) as error:
        raise _problem(str(path), f"cannot be read: {_reason(error)}; correct the path or its permissions") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _built_in_runs(source: ConfigSource) -> LintWarning:
    message = "there is no such file, so the built-in profile runs; write your own with `codex-proxy init`"
    return LintWarning(str(source.path), message)


def _problem(place: str, message: str) -> ConfigError:
    return ConfigError((ConfigProblem(place, message),))
