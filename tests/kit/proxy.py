"""The product as a process: `codex-proxy serve`, or a bare `mitmdump -s addons/codex.py`."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from .answers import request_id
from .lines import Lines
from .policies import Policy
from .process import PATIENCE, REPO, Process, clean_environment, python
from .raw import exchange, get
from .world import World

Event = dict[str, Any]


def serve_command(*arguments: str | Path) -> list[str | Path]:
    return python(REPO / "scripts" / "launch.py", "serve", *arguments)


def serve_on(platform: str, *arguments: str | Path) -> list[str | Path]:
    """The same, believing that this is another platform."""
    return python(REPO / "tests" / "kit" / "on_platform.py", platform, "serve", *arguments)


class ProxyProcess(Process):
    """`codex-proxy serve` with a configuration of its own, listening on free ports. Entered, it is ready.

    `http`, `socks` and `web` are addresses as bound. `world` records look-ups, dials and binds of the process.
    `ca` is what clients must trust, and `ca_bundle` the same with every other root; both only with interception.
    `platform` is what the process takes for `sys.platform`.
    """

    def __init__(
        self,
        home: Path,
        policy: Policy | str,
        *,
        fast_path: bool = True,
        arguments: Sequence[str | Path] = (),
        world: World | None = None,
        audit: Path | None = None,
        environment: Mapping[str, str] | None = None,
        platform: str | None = None,
    ) -> None:
        self.home = home
        self._more = dict(environment or {})
        home.mkdir(parents=True, exist_ok=True)
        self.config = home / "config.toml"
        self.config.write_text(policy if isinstance(policy, str) else policy.toml())
        self.world = world or World(home / "world")
        self.audit_log = audit or home / "audit.jsonl"
        self._audit = Lines(self.audit_log)
        self._events: list[Event] = []
        self.ready_file = home / "ready.json"
        self.http = self.socks = self.web = ""
        self.ca = Path()
        pins = [] if isinstance(policy, str) else policy.pin_arguments
        options: list[str | Path] = [*pins, *([] if fast_path else ["--no-fast-path"]), *arguments]
        files = ["--config", self.config, "--audit-log", self.audit_log, "--ready-file", self.ready_file]
        command = serve_command if platform is None else partial(serve_on, platform)
        super().__init__(command(*map(str, files), *options), self._environment(), home)

    def _environment(self) -> dict[str, str]:
        return clean_environment(self.home, **{"CODEX_HOME": str(self.home)} | self.world.environment | self._more)

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.wait_ready()
        except BaseException:
            super().__exit__(None, None, None)
            raise
        return self

    def wait_ready(self, patience: float = PATIENCE) -> None:
        self.until(self.ready_file.exists, "the ready file", patience)
        ready = json.loads(self.ready_file.read_text())
        self.http, self.socks = ready["http"], ready.get("socks") or ""
        self.web = ready.get("web") or ""
        self.ca = Path(ready.get("ca") or "")
        assert any(one.event == "start" for one in self.world.happenings()), "the test's world is not in place"

    def write_config(self, text: str) -> None:
        """Puts a new configuration in the place of the old one, whole, as editors do."""
        draft = self.config.with_suffix(".new")
        draft.write_text(text)
        draft.replace(self.config)

    def reload(self, text: str) -> None:
        """Puts a new configuration in force, or a broken one, without the wait until the proxy looks at its file."""
        before = self._reloads()
        self.write_config(text)
        self.child.send_signal(signal.SIGHUP)
        self.until(lambda: self._reloads() > before, "the reload")

    def _reloads(self) -> int:
        return sum(map(self.output.count, ("reloaded config from", "the configuration is broken")))

    @property
    def ca_bundle(self) -> Path:
        return self.ca.with_name("ca-bundle.pem")

    def audit_events(self, count: int = 0, where: Callable[[Event], bool] = lambda event: True) -> list[Event]:
        """Waits until `count` events of that kind are written, and returns them all."""
        found: list[Event] = []

        def enough() -> bool:
            self._events.extend(self._audit.more())
            found[:] = [event for event in self._events if where(event)]
            return len(found) >= count

        self.until(enough, f"{count} audit events")
        return found

    def settled_events(self, where: Callable[[Event], bool]) -> list[Event]:
        """Every event of that kind up to now: waits for the event of a request of its own, which comes after them."""
        answer = exchange(self.http, get("http://end-of-the-log.invalid/"))
        self.events_of(request_id(answer))
        return self.audit_events(0, where)

    def events_of(self, request_id: str, count: int = 1) -> list[Event]:
        return self.audit_events(count, lambda event: event.get("request.id") == request_id)


class MitmdumpProcess(ProxyProcess):
    """The add-on in a stock engine program. Names come from `world`: there is no `--resolve` here."""

    def __init__(
        self,
        home: Path,
        policy: Policy,
        *,
        program: str = "mitmdump",
        script: Path = REPO / "addons" / "codex.py",
        arguments: Sequence[str | Path] = (),
        world: World | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        names = {name: [[address]] for name, address in policy.pins}
        # Into a pipe the engine's programs write in blocks, and what they say would be seen too late.
        said_at_once = {"PYTHONUNBUFFERED": "1", **(environment or {})}
        super().__init__(home, policy, world=world or World(home / "world", names), environment=said_at_once)
        self.audit_log = home / "log" / "network-proxy.jsonl"
        self._audit = Lines(self.audit_log)
        engine = f"from mitmproxy.tools.main import {program}; {program}()"
        options = ["--set", f"confdir={home / 'engine'}", *arguments]
        self.command = [str(part) for part in python("-c", engine, "-s", script, *options)]

    def wait_ready(self, patience: float = PATIENCE) -> None:
        self.until_printed("HTTP proxy listening on", patience)
        self.http = self.address_in(self.output)
        if "enable_socks5 = false" not in self.config.read_text():
            self.until_printed("SOCKS5 proxy listening on", patience)
            self.socks = self.address_in(self.output, "SOCKS5")
        self.ca = self.home / "proxy" / "ca.pem"

    @staticmethod
    def address_in(output: str, listener: str = "HTTP") -> str:
        """A listener's address as the log tells it."""
        found = re.search(rf"{listener} proxy listening on (?:http://)?(\S+:\d+)", output)
        assert found, output
        return found[1]
