"""Hooks as values, for the configuration of a proxy that reads HTTPS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .policies import LOOPBACK, Policy

Lists = tuple[tuple[str, tuple[str, ...]], ...]
SECRET_VARIABLE = "KIT_TOKEN"
CANARY = "canary-4f1c9be27a"
"""The secret behind `SECRET_VARIABLE`. It may show up at the hooked origin and nowhere else."""


@dataclass(frozen=True, slots=True)
class Inject:
    """One header to set; from the environment, unless a file is named."""

    name: str = "authorization"
    prefix: str = "Bearer "
    env: str = SECRET_VARIABLE
    file: str = ""

    def table(self) -> dict[str, object]:
        source = {"secret_file": self.file} if self.file else {"secret_env_var": self.env}
        return {"name": self.name, "prefix": self.prefix, **source}


@dataclass(frozen=True, slots=True)
class Hook:
    """One entry of `mitm_hooks`. As it stands it allows GET and POST on every path and edits nothing."""

    host: str
    methods: tuple[str, ...] = ("GET", "POST")
    paths: tuple[str, ...] = ("/",)
    query: Lists = ()
    headers: Lists = ()
    strip: tuple[str, ...] = ()
    inject: tuple[Inject, ...] = ()

    def table(self) -> dict[str, object]:
        match: dict[str, object] = {"methods": self.methods, "path_prefixes": self.paths}
        match |= {name: dict(pairs) for name, pairs in (("query", self.query), ("headers", self.headers)) if pairs}
        injected = [entry.table() for entry in self.inject]
        return {
            "host": self.host,
            "match": match,
            "actions": {"strip_request_headers": self.strip, "inject_request_headers": injected},
        }


def hook_lines(*hooks: Hook, mitm: bool = True) -> tuple[str, ...]:
    """Lines of the network table: interception, and the hooks in order."""
    tables = ", ".join(_inline(hook.table()) for hook in hooks)
    return (f"mitm = {json.dumps(mitm)}", f"mitm_hooks = [{tables}]")


def _inline(value: object) -> str:
    match value:
        case Mapping():
            return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
        case Sequence() if not isinstance(value, str):
            return "[" + ", ".join(map(_inline, value)) + "]"
        case _:
            return json.dumps(value)


EVERYTHING = ("**.test", "127.0.0.1", "::1")


def inspecting(*hooks: Hook, mode: str = "full", allowed: tuple[str, ...] = EVERYTHING, mitm: bool = True) -> Policy:
    """Names of the test reach loopback origins; the hooked ones are read."""
    names = dict.fromkeys([*(hook.host for hook in hooks), *NAMES])
    return Policy(
        allowed=allowed,
        allow_local_binding=True,
        mode=mode,
        lines=hook_lines(*hooks, mitm=mitm),
        pins=tuple((name, LOOPBACK) for name in names),
    )


API, OTHER, RAW = "api.allowed.test", "other.allowed.test", "raw.allowed.test"
"""A hooked host, another that has hooks of its own in some policies, and one that never has."""
NAMES = (API, OTHER, RAW, "allowed.test", "evil.test", "denied.test")
READ_ONLY = inspecting(Hook(API, ("GET", "POST", "HEAD"), ("/repos/",), inject=(Inject(),)), mode="limited")
"""Limited mode, with a hook that would allow more."""
GITHUB = Hook(
    API,
    ("POST",),
    ("/repos/openai/",),
    query=(("state", ("open",)),),
    headers=(("x-github-api-version", ("2022-11-28",)),),
    strip=("authorization",),
    inject=(Inject(),),
)
GITHUB_READ = inspecting(GITHUB, Hook(OTHER, ("GET", "POST"), ("/t", "/echo"), inject=(Inject(),)))
"""Two hooked hosts: one whose hook asks for everything that a hook can ask for, and one that asks for little."""
HOOKS = (Hook(API, ("POST", "GET"), ("/repos/", "/ws"), inject=(Inject(),)),)
HOOKED = inspecting(*HOOKS)
HOOKED_UNREAD = inspecting(*HOOKS, mitm=False)
"""One hooked host, and the same without interception, which closes it."""
ORIGIN_NAMES = (
    "allowed.test", "*.allowed.test", "sub.test", "*.sub.test", "foo_bar.sub.test", "*.v2.test", "*.dns.test",
    "evil.test", "denied.test", "localhost", "127.0.0.1", "::1",
)  # fmt: skip
"""What the certificate of the shared HTTPS origin is for: every name that a row may let through."""
