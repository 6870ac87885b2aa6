"""Real proxies of others, behind the one under test: tinyproxy and squid, where they are installed."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from types import TracebackType

from .canaries import free_port
from .clients import need
from .process import Process, clean_environment

ATTEMPTS = 5


class RealProxy(Process):
    """Entered, it listens on `address`. These programs cannot bind port 0, so a port that was lost is tried anew."""

    def __init__(self, folder: Path, program: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.program = need(program)
        self.address = ""
        super().__init__([], clean_environment(folder), folder)

    def config(self, port: int) -> list[str | Path]:
        """Writes the configuration; the command that reads it."""
        raise NotImplementedError

    def start(self) -> RealProxy:
        for _ in range(ATTEMPTS):
            port = free_port()
            self.command = [str(part) for part in self.config(port)]
            super().start()
            self.address = f"127.0.0.1:{port}"
            try:
                self.until(self._listens, "listening")
            except AssertionError:
                super().__exit__(None, None, None)
                continue
            return self
        raise AssertionError(f"{self.program} does not start:\n{self.output}")

    def _listens(self) -> bool:
        host, _, port = self.address.partition(":")
        with socket.socket() as probe:
            return probe.connect_ex((host, int(port))) == 0


class Tinyproxy(RealProxy):
    """Passes everything on to a third proxy, since it asks the system for names. With `login` it wants credentials."""

    def __init__(self, folder: Path, behind: str, login: str) -> None:
        super().__init__(folder, "tinyproxy")
        self._behind = behind
        self._login = login

    def config(self, port: int) -> list[str | Path]:
        file = self.folder / "tinyproxy.conf"
        user, _, password = self._login.partition(":")
        file.write_text(f"""Port {port}
Listen 127.0.0.1
Timeout 60
BasicAuth {user} {password}
LogFile "{self.folder / "log"}"
Upstream http {self._behind}
""")
        return [self.program, "-d", "-c", file]


class Squid(RealProxy):
    """Knows the names in its hosts file."""

    def __init__(self, *names: str) -> None:
        # It gives up root's rights, and pytest's folders are their owner's alone.
        self._temporary = tempfile.TemporaryDirectory(prefix="squid-")
        super().__init__(Path(self._temporary.name), "squid")
        self.folder.chmod(0o777)
        self._names = names

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, error, tb)
        self._temporary.cleanup()

    def config(self, port: int) -> list[str | Path]:
        hosts, file = self.folder / "hosts", self.folder / "squid.conf"
        hosts.write_text("".join(f"127.0.0.1 {name}\n" for name in self._names))
        file.write_text(f"""http_port 127.0.0.1:{port}
http_access allow all
hosts_file {hosts}
access_log stdio:{self.folder / "access.log"}
cache_log {self.folder / "cache.log"}
cache deny all
cache_mem 0
pid_filename none
coredump_dir {self.folder}
pinger_enable off
shutdown_lifetime 0 seconds
""")
        return [self.program, "-N", "-f", file]
