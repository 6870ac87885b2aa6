"""Configurations as values, and the ones that several tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """One profile of `config.toml`. `lines` are further TOML lines of the network table.

    `pins` go to `--resolve`; `names` are what the process's own look-ups find, answer by answer.
    """

    allowed: tuple[str, ...] = ("allowed.test", "*.sub.test")
    denied: tuple[str, ...] = ("denied.test",)
    allow_local_binding: bool = False
    mode: str = "full"
    enabled: bool = True
    lines: tuple[str, ...] = ()
    pins: tuple[tuple[str, str], ...] = ()
    names: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()

    def toml(self, profile: str = "test") -> str:
        values: Mapping[str, object] = {
            "enabled": self.enabled,
            "proxy_url": "http://127.0.0.1:0",
            "socks_url": "http://127.0.0.1:0",
            "mode": self.mode,
            "allow_local_binding": self.allow_local_binding,
            "allowed_domains": list(self.allowed),
            "denied_domains": list(self.denied),
        }
        given = {line.partition("=")[0].strip() for line in self.lines}
        kept = {key: value for key, value in values.items() if key not in given}
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in kept.items()]
        head = [f'default_permissions = "{profile}"', "", f"[permissions.{profile}.network]"]
        return "\n".join([*head, *lines, *self.lines, ""])

    @property
    def pin_arguments(self) -> list[str]:
        return [part for name, address in self.pins for part in ("--resolve", f"{name}={address}")]


LOOPBACK = "127.0.0.1"
ORIGIN_NAMES = ("allowed.test", "a.sub.test", "b.sub.test", "foo_bar.sub.test", "denied.test", "evil.test")
PINS = tuple((name, LOOPBACK) for name in ORIGIN_NAMES)

# Names reach loopback origins; the host rules are the ones of security-case classes A, D and F.
OPEN = Policy(allow_local_binding=True, pins=PINS)
# The same with the address rules on: what resolves to loopback is refused.
STRICT = Policy(pins=PINS)
LIMITED = Policy(allow_local_binding=True, mode="limited", pins=PINS)
