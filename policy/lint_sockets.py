"""Warnings about unix sockets: what looks like one socket and is the whole machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .profiles import Finding
from .toml_lines import Path
from .unix_paths import ADDRESS_LIMIT

_RUNTIMES = frozenset(
    (
        "docker.sock", "docker.raw.sock", "podman.sock", "containerd.sock", "crio.sock", "cri-dockerd.sock",
        "dockershim.sock", "buildkitd.sock",
    )
)  # fmt: skip
"""File names under which container runtimes listen. They start whatever they are told to, as root."""


def lint_sockets(sockets: Mapping[str, Path], allow_all: bool) -> Iterator[Finding]:
    """Everything worth a warning about the allowed paths, each with its place in the network table."""
    if allow_all:
        message = "opens every unix socket of this machine, container runtimes and key agents included"
        yield Finding(("dangerously_allow_all_unix_sockets",), f"{message}; list paths in allow_unix_sockets")
    for path, place in sockets.items():
        if path.rpartition("/")[2] in _RUNTIMES:
            message = "is a container runtime, and who may use it controls this machine; remove it"
            yield Finding(place, message, path)
        if len(path.encode()) > ADDRESS_LIMIT:
            message = f"is longer than the {ADDRESS_LIMIT} bytes that a socket's address may have; write a shorter path"
            yield Finding(place, message, path)
