"""A real sshd behind a recording port: one process for each client, logging in as the user who runs the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from .clients import Done, need, run
from .server import PATIENCE, RecordingStream, Server

CONFIG = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/client_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
"""
# sshd of the super-user wants this folder, which the system makes when it starts its own. We make it where nobody sees.
PRIVATE_RUN = 'mount -t tmpfs none /run && mkdir -m 0755 /run/sshd && exec "$@"'


class SshOrigin(Server):
    """`known_as` is the only name under which its clients take it for the right one. Skips where sshd cannot run."""

    name = "ssh"
    known_as = "ssh-origin"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for key in ("host_key", "client_key"):
            subprocess.run([need("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        (folder / "sshd_config").write_text(CONFIG.format(folder=folder))
        kind, key, *_ = (folder / "host_key.pub").read_text().split()
        (folder / "known_hosts").write_text(f"{self.known_as} {kind} {key}\n")
        self._command = [*_privately(), _sshd(), "-f", str(folder / "sshd_config")]
        tried = subprocess.run([*self._command, "-t"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            pytest.skip(f"sshd does not start here: {tried.stderr.strip()}")

    def serve(self, stream: RecordingStream) -> None:
        client = stream.sock.fileno()
        with (self.folder / "sshd.log").open("ab") as log:
            subprocess.run([*self._command, "-i", "-e"], stdin=client, stdout=client, stderr=log, check=False)

    def options(self, *more: str) -> list[str]:
        """What a client needs to log in, and nothing of its user's settings."""
        settings = {
            "IdentityFile": self.folder / "client_key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.folder / "known_hosts",
            "GlobalKnownHostsFile": "none",
            "HostKeyAlias": self.known_as,
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": int(PATIENCE),
        }
        given = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        return ["-F", "none", *given, "-p", str(self.port), *more]

    def check_login(self) -> None:
        """Skips where even a client without a proxy gets no shell."""
        done = self.ssh(self.folder, self.host, "echo", "welcome")
        if done.out != "welcome\n":
            pytest.skip(f"no login at a local sshd: {done.err.strip()[-300:]}")

    def ssh(self, folder: Path, host: str, *command: str, options: Sequence[str] = ()) -> Done:
        return run([need("ssh"), *self.options(*options), f"{getpass.getuser()}@{host}", *command], folder)


def _sshd() -> str:
    found = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip("sshd is not installed")
    return found


def _privately() -> list[str]:
    if os.geteuid() != 0 or Path("/run/sshd").is_dir():
        return []
    return [need("unshare"), "--mount", "sh", "-c", PRIVATE_RUN, "sh"]
