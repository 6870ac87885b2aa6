"""A smart-HTTP git server: `git http-backend` as CGI behind a recording origin."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .origins import Exchange
from .process import clean_environment
from .wire import parse_head


def make_repository(folder: Path) -> Path:
    """A bare repository with one commit of one file, served under its folder's name."""
    work, bare = folder / "work", folder / "demo.git"
    settings = ["-c", "user.name=Test", "-c", "user.email=test@origin.test", "-c", "init.defaultBranch=main"]

    def git(*arguments: str | Path) -> None:
        command = ["git", *settings, *map(str, arguments)]
        subprocess.run(command, check=True, capture_output=True, env=clean_environment(folder), cwd=folder)

    git("init", work)
    (work / "hello.txt").write_text("hello from the origin\n")
    git("-C", work, "add", "hello.txt")
    git("-C", work, "commit", "-m", "one file")
    git("clone", "--bare", work, bare)
    git("-C", bare, "config", "http.receivepack", "true")
    return bare


def git_backend(root: Path) -> Callable[[Exchange], None]:
    """A handler that serves the repositories below `root` at `/git/`."""

    def serve(exchange: Exchange) -> None:
        body, _ = exchange.body()
        environment = clean_environment(
            root,
            GIT_PROJECT_ROOT=str(root),
            GIT_HTTP_EXPORT_ALL="1",
            REQUEST_METHOD=exchange.method,
            PATH_INFO=exchange.path.removeprefix("/git"),
            QUERY_STRING=exchange.target.partition("?")[2],
            CONTENT_TYPE=exchange.head.get("content-type") or "",
            CONTENT_LENGTH=str(len(body)),
            HTTP_CONTENT_ENCODING=exchange.head.get("content-encoding") or "",
            GIT_PROTOCOL=exchange.head.get("git-protocol") or "",
            REMOTE_USER="tester",
            PATH=os.environ["PATH"],
        )
        command = ["git", "http-backend"]
        answer = subprocess.run(command, input=body, env=environment, capture_output=True, check=True).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        fields = parse_head(b"\r\n" + head).fields
        status = dict(fields).get("Status", "200 OK")
        exchange.answer(content, *(f"{name}: {value}" for name, value in fields if name != "Status"), status=status)

    return serve
