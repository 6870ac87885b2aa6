"""The commands that the README shows for SOCKS5, so that tests run these very ones."""

from __future__ import annotations

import re

from .process import REPO
from .proxy import ProxyProcess

ADDRESS = "127.0.0.1:8081"
CURL, CURL_BY_VARIABLE, GIT = "curl --socks5-hostname ", "ALL_PROXY=", "git -c http.proxy="
SSH_BY_NC, SSH_BY_NCAT, GIT_BY_SSH = "ssh -o ProxyCommand='nc ", "ssh -o ProxyCommand='ncat ", "GIT_SSH_COMMAND="
REQUESTS, HTTPX = "requests.get(", "httpx.get("
TRIED = (CURL, CURL_BY_VARIABLE, GIT, SSH_BY_NC, SSH_BY_NCAT, GIT_BY_SSH, REQUESTS, HTTPX)
"""How the lines begin that tests run."""


def recipes() -> list[str]:
    """Every line of code in the README's section on SOCKS5."""
    section = (REPO / "README.md").read_text().partition("\n## SOCKS5\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```\w+\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def recipe(start: str, proxy: ProxyProcess, **places: str) -> str:
    """The one line that begins so, told about this proxy. `places` are texts of the README to put others for."""
    assert start in TRIED
    (line,) = [line for line in recipes() if line.startswith(start)]
    assert ADDRESS in line, line
    line = line.replace(ADDRESS, proxy.socks)
    for old, new in places.items():
        assert old in line, line
        line = line.replace(old, new)
    return line
