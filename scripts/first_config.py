"""The configuration that `codex-proxy init` writes: a commented file to start from, for what a program is to do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

PROFILE = "workspace"


@dataclass(frozen=True, slots=True)
class Entry:
    """A host, and what it is there for."""

    pattern: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Preset:
    """What one kind of work needs. `hooks` make HTTPS to their hosts read, so that only what they name passes."""

    purpose: str
    allowed: tuple[Entry, ...]
    denied: tuple[Entry, ...] = ()
    hooks: tuple[str, ...] = ()


def _reading(*hosts: str) -> Iterator[str]:
    for host in hosts:
        yield f'host = "{host}"\nmatch = {{ methods = ["GET", "HEAD"], path_prefixes = ["/"] }}'


DEFAULT = Preset(
    "what is allowed without a file, too",
    (
        Entry("*.openai.com", "subdomains at any depth"),
        Entry("localhost", "this machine, by name"),
        Entry("127.0.0.1", "and by its addresses"),
        Entry("::1", "likewise"),
    ),
)

PRESETS = {
    "python": Preset(
        "packages for pip, uv and poetry",
        (Entry("pypi.org", "the index"), Entry("files.pythonhosted.org", "the files that it lists")),
    ),
    "node": Preset(
        "packages for npm, pnpm and yarn",
        (
            Entry("registry.npmjs.org", "the registry"),
            Entry("registry.yarnpkg.com", "the same for yarn 1"),
            Entry("nodejs.org", "headers, for packages that are compiled"),
        ),
    ),
    "github-read": Preset(
        "reading from GitHub: pages, API, clone and fetch; no push, no issue, no gist",
        (
            Entry("github.com", "pages and git over HTTPS"),
            Entry("api.github.com", "the API"),
            Entry("codeload.github.com", "archives"),
            Entry("raw.githubusercontent.com", "single files"),
            Entry("objects.githubusercontent.com", "large files"),
            Entry("release-assets.githubusercontent.com", "files of releases"),
        ),
        (Entry("gist.github.com", "anybody can write there"),),
        (
            *_reading("github.com"),
            '# Clone and fetch; a push would be git-receive-pack.\nhost = "github.com"\n'
            'match = { methods = ["POST"], path_prefixes = ["pattern:/*/*/git-upload-pack"] }',
            *_reading(
                "api.github.com",
                "codeload.github.com",
                "raw.githubusercontent.com",
                "objects.githubusercontent.com",
                "release-assets.githubusercontent.com",
            ),
        ),
    ),
}


def first_config(names: Sequence[str]) -> str:
    """The text for these presets together, or without any the built-in list. Raises `KeyError`."""
    chosen = {name: PRESETS[name] for name in names} or {"default": DEFAULT}
    return "\n".join([*_head(names), *_lists(chosen), *_switches(chosen.values()), *_hooks(chosen), ""])


def _head(names: Sequence[str]) -> Iterator[str]:
    yield f"# Written by `codex-proxy init{''.join(f' --preset {name}' for name in names)}`."
    yield "# `codex-proxy check` finds mistakes; a running proxy takes changes over within two seconds."
    yield f'default_permissions = "{PROFILE}"'
    yield ""
    yield f"[permissions.{PROFILE}.network]"
    yield "enabled = true"
    yield ""


def _lists(chosen: dict[str, Preset]) -> Iterator[str]:
    yield "# What may be reached: hosts, `*.example.com` for subdomains, addresses; each may end in a :port."
    yield "allowed_domains = ["
    for name, preset in chosen.items():
        yield f"    # {name}: {preset.purpose}"
        yield from map(_line, preset.allowed)
    yield "]"
    yield "# What may not, whatever stands above."
    denied = [entry for preset in chosen.values() for entry in preset.denied]
    yield from ("denied_domains = [", *map(_line, denied), "]") if denied else ("denied_domains = []",)
    yield ""


def _line(entry: Entry) -> str:
    return f"    {json.dumps(entry.pattern)},  # {entry.purpose}"


def _switches(chosen: Iterable[Preset]) -> Iterator[str]:
    mitm = any(preset.hooks for preset in chosen)
    yield '# "limited" lets programs read and not write; for HTTPS it needs mitm = true.'
    yield 'mode = "full"'
    yield "# true reads HTTPS where limited mode or a hook needs it; clients must trust the proxy's certificate then,"
    yield "# which `codex-proxy run` and `codex-proxy env` see to."
    yield f"mitm = {json.dumps(mitm)}"
    yield "# true opens loopback and private addresses for what is allowed."
    yield "allow_local_binding = false"


def _hooks(chosen: dict[str, Preset]) -> Iterator[str]:
    hooks = [hook for preset in chosen.values() for hook in preset.hooks]
    if hooks:
        yield ""
        yield "# Of these hosts only what a hook names passes. A hook may also add a header with a secret."
    for hook in hooks:
        yield f"[[permissions.{PROFILE}.network.mitm_hooks]]"
        yield hook
