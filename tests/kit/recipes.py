"""The commands that the README shows, so that tests run these very ones, and none of them is run by nobody.

`TESTED` names the test of each command, `UNTESTED` says why there is none; tests/test_recipes.py keeps both whole.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from .process import REPO, python
from .proxy import ProxyProcess

HTTP_ADDRESS, SOCKS_ADDRESS, HOME = "127.0.0.1:3128", "127.0.0.1:8081", "~/.codex/"
FENCE = re.compile(r"^```(\w*)$")
HEADING = re.compile(r"^#+ (.+)$")
PROGRAMS = r"\./scripts/codex-proxy|codex-proxy|mitmdump|mitmweb|source|\.venv/bin/pip|pip"
SPOKEN = re.compile(rf"`((?:{PROGRAMS}) [^`]+)`")
"""A command to type in the middle of a sentence."""
CODE_OF_PYTHON = ("requests.get(", "httpx.get(")

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, and the heading that it stands under."""

    heading: str
    language: str
    text: str

    def commands(self) -> Iterator[str]:
        """What a reader would type, without prompts and comments."""
        for line in self.text.splitlines():
            if self.language == "console" and line.startswith("$ "):
                yield _bare(line.removeprefix("$ "))
            elif self.language == "sh" or line.startswith(CODE_OF_PYTHON):
                yield _bare(line)

    def shown(self, command: str) -> str:
        """What a console prints after this command, up to the next prompt."""
        lines = self.text.splitlines()
        (at,) = [index for index, line in enumerate(lines) if _bare(line) == f"$ {command}"]
        until = next((index for index in range(at + 1, len(lines)) if lines[index].startswith("$ ")), len(lines))
        return "\n".join(lines[at + 1 : until]).strip()


def _bare(line: str) -> str:
    return re.sub(r"\s\s+# .*$", "", line)


def readme() -> tuple[list[Block], str]:
    """Its blocks of code in order, and all the text around them."""
    blocks, prose, heading, language = [], [], "", None
    inside: list[str] = []
    for line in (REPO / "README.md").read_text().splitlines():
        if fence := FENCE.match(line):
            if language is not None:
                blocks.append(Block(heading, language, "\n".join(inside)))
            language = fence[1] if language is None else None
            inside = []
        elif language is not None:
            inside.append(line)
        else:
            heading = found[1] if (found := HEADING.match(line)) else heading
            prose.append(line)
    return blocks, "\n".join(prose)


def rows(heading: str) -> dict[str, list[str]]:
    """The first table under a heading: what stands in the first column, and the pieces of code that follow it."""
    section = (REPO / "README.md").read_text().partition(f"# {heading}\n")[2]
    lines = [line for line in section[: section.index("\n#")].splitlines() if line.startswith("| ")]
    cells = [re.split(r" *(?<!\\)\| *", line.strip("| ")) for line in lines[2:]]
    return {first: re.findall(r"`([^`]+)`", " ".join(more)) for first, *more in cells}


def recipes() -> list[str]:
    """Every command of the README, in blocks and in sentences, once each."""
    blocks, prose = readme()
    return list(dict.fromkeys([*(line for block in blocks for line in block.commands()), *SPOKEN.findall(prose)]))


def block_of(command: str) -> Block:
    """The first block with this command in it."""
    return next(block for block in readme()[0] if command in block.commands())


def recipe(command: str, proxy: ProxyProcess | None = None, places: Mapping[str, str] = NOTHING) -> str:
    """A command of the README, told about this proxy. `places` are texts of the README to put others for."""
    assert command in TESTED, command
    assert command in recipes(), command
    return told(command, proxy, places)


def script(command: str, proxy: ProxyProcess, places: Mapping[str, str] = NOTHING) -> str:
    """The whole block that this command is in, for a shell, told about this proxy."""
    assert command in TESTED, command
    return told("\n".join(block_of(command).commands()), proxy, places)


def told(text: str, proxy: ProxyProcess | None, places: Mapping[str, str] = NOTHING) -> str:
    ours = {} if proxy is None else {HTTP_ADDRESS: proxy.http, SOCKS_ADDRESS: proxy.socks, HOME: f"{proxy.home}/"}
    assert not ours or any(old in text for old in ours), text
    for old in places:
        assert old in text, text
    for old, new in (ours | dict(places)).items():
        text = text.replace(old, new)
    return text


def codex_proxy(folder: Path) -> Path:
    """`codex-proxy` as a reader has it on the PATH, with the packages of this environment."""
    file = folder / "bin" / "codex-proxy"
    file.parent.mkdir(exist_ok=True)
    file.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, python(REPO / "scripts" / "launch.py")))} "$@"\n')
    file.chmod(0o755)
    return file


# -- the commands --------------------------------------------------------------------------------------------------

START = "./scripts/codex-proxy"
CURL_ALLOWED = "curl -x http://127.0.0.1:3128 http://localhost:8000/hello.txt"
CURL_BLOCKED = "curl -x http://127.0.0.1:3128 http://example.com/"
CURL_TUNNEL_BLOCKED = "curl -x http://127.0.0.1:3128 https://example.com/"
CHECK = "./scripts/codex-proxy check"
RUN_PIP = "./scripts/codex-proxy run --allow pypi.org -- pip install requests"
RUN_NPM = "./scripts/codex-proxy run -- npm install"
ENV = 'eval "$(./scripts/codex-proxy env)"'
VARIABLES = (
    "export http_proxy=http://127.0.0.1:3128 https_proxy=http://127.0.0.1:3128",
    "export HTTP_PROXY=$http_proxy HTTPS_PROXY=$http_proxy WS_PROXY=$http_proxy WSS_PROXY=$http_proxy",
    "unset no_proxy NO_PROXY",
)
CURL_VERBOSE = "curl -v -x http://127.0.0.1:3128 https://example.com/"
HOOK_VARIABLES = "export https_proxy=http://127.0.0.1:3128 CURL_CA_BUNDLE=~/.codex/proxy/ca-bundle.pem"
HOOK_CURL = """curl https://api.github.com/user/repos -d '{"name":"mine"}'"""
TRUST = (
    "ca=~/.codex/proxy/ca-bundle.pem",
    "export SSL_CERT_FILE=$ca CURL_CA_BUNDLE=$ca REQUESTS_CA_BUNDLE=$ca GIT_SSL_CAINFO=$ca PIP_CERT=$ca",
    "export NPM_CONFIG_CAFILE=$ca CARGO_HTTP_CAINFO=$ca AWS_CA_BUNDLE=$ca NODE_EXTRA_CA_CERTS=~/.codex/proxy/ca.pem",
)
CURL = "curl --socks5-hostname 127.0.0.1:8081 https://api.example.com/"
CURL_BY_VARIABLE = "ALL_PROXY=socks5h://127.0.0.1:8081 curl https://api.example.com/"
GIT = "git -c http.proxy=socks5h://127.0.0.1:8081 clone https://git.example.com/team/website"
SSH_BY_NC = "ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:8081 %h %p' git@git.example.com"
SSH_BY_NCAT = "ssh -o ProxyCommand='ncat --proxy-type socks5 --proxy 127.0.0.1:8081 %h %p' git@git.example.com"
GIT_BY_SSH = (
    "GIT_SSH_COMMAND=\"ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:8081 %h %p'\""
    " git clone git@git.example.com:team/website"
)
REQUESTS = 'requests.get(url, proxies={"http": "socks5h://127.0.0.1:8081", "https": "socks5h://127.0.0.1:8081"})'
HTTPX = 'httpx.get(url, proxy="socks5h://127.0.0.1:8081")'
SOCKET = "curl -x http://127.0.0.1:3128 -H 'x-unix-socket: /tmp/example.sock' http://example/v1/items"
SOCKET_BLOCKED = "curl -x http://127.0.0.1:3128 -H 'x-unix-socket: /var/run/docker.sock' http://example/v1/items"
UPSTREAM = "HTTPS_PROXY=http://user:password@proxy.corp.example:8080 NO_PROXY=intranet.example ./scripts/codex-proxy"
OTEL = "export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318"
LEARN = "./scripts/codex-proxy learn"

FIRST, CLIENTS, TRUSTING = "e2e/test_recipes.py", "e2e/test_recipes_clients.py", "e2e/test_recipes_trust.py"
TESTED: dict[str, str] = {
    START: "scripts/test_commands.py::test_the_first_start_sets_up_and_the_next_goes_straight_to_the_program",
    CURL_ALLOWED: f"{FIRST}::test_the_first_screen",
    CURL_BLOCKED: f"{FIRST}::test_the_first_screen",
    CURL_TUNNEL_BLOCKED: f"{FIRST}::test_the_first_screen",
    CHECK: f"{FIRST}::test_what_check_prints",
    RUN_PIP: f"{FIRST}::test_pip_in_a_proxy_of_its_own_and_the_fix_that_is_proposed",
    RUN_NPM: f"{FIRST}::test_npm_in_a_proxy_of_its_own",
    ENV: f"{CLIENTS}::test_env_does_the_same",
    "codex-proxy env": f"{TRUSTING}::test_what_is_read_is_trusted",
    **dict.fromkeys(VARIABLES, f"{CLIENTS}::test_what_is_allowed_arrives"),
    CURL_VERBOSE: f"{FIRST}::test_a_refused_tunnel_tells_why",
    f"{START} explain https://gist.github.com/acme": (
        "test_docs.py::test_the_explanation_in_the_readme_is_the_one_that_is_given"
    ),
    HOOK_VARIABLES: f"{FIRST}::test_a_hook_lets_one_repository_through",
    HOOK_CURL: f"{FIRST}::test_a_hook_lets_one_repository_through",
    **dict.fromkeys(TRUST, f"{TRUSTING}::test_what_is_read_is_trusted"),
    CURL: "e2e/test_socks_curl.py::test_a_name",
    CURL_BY_VARIABLE: "e2e/test_socks_curl.py::test_a_name",
    GIT: "e2e/test_socks_curl.py::test_git_over_http",
    SSH_BY_NC: "e2e/test_socks_ssh.py::test_a_login",
    SSH_BY_NCAT: "e2e/test_socks_ssh.py::test_a_login",
    GIT_BY_SSH: "e2e/test_socks_ssh.py::test_git_over_ssh",
    REQUESTS: "e2e/test_socks_clients.py::test_the_lines_of_the_readme",
    HTTPX: "e2e/test_socks_clients.py::test_the_lines_of_the_readme",
    SOCKET: "e2e/test_unix_sockets.py::test_curl_reaches_a_socket",
    SOCKET_BLOCKED: "e2e/test_unix_sockets.py::test_curl_is_told_why_not",
    UPSTREAM: f"{FIRST}::test_the_way_through_a_companys_proxy",
    OTEL: "e2e/test_audit_export.py::test_every_decision_reaches_the_collector_as_it_is_in_the_file",
    LEARN: "scripts/test_history_commands.py::test_the_list_in_the_readme_is_what_it_prints",
    "./scripts/codex-proxy init": "scripts/test_cli.py::test_init_writes_a_file_that_loads_and_never_overwrites",
    "./scripts/codex-proxy serve": "scripts/test_cli.py::test_serve_is_the_default_command_and_ends_when_disabled",
    "./scripts/codex-proxy serve --web": "e2e/test_mitmweb.py::test_every_block_is_listed_marked_and_explained",
    "./scripts/codex-proxy serve --ask": "e2e/test_ask.py::test_in_the_terminal_a_allows_once_and_d_denies",
    "./scripts/codex-proxy doctor": "e2e/test_doctor.py::test_a_good_machine_is_told_in_lines",
    "source <(codex-proxy completion bash)": f"{FIRST}::test_a_shell_that_reads_the_completion",
    "codex-proxy completion fish | source": f"{FIRST}::test_a_shell_that_reads_the_completion",
    "mitmdump -s addons/codex.py": "e2e/test_lifecycle.py::test_the_script_serves_both_ports_and_says_so",
    "mitmweb -s addons/codex.py": "e2e/test_mitmweb.py::test_every_block_is_listed_marked_and_explained",
    "pip install .": "test_packaging.py::test_the_installed_program_starts",
}
UNTESTED: dict[str, str] = {
    "pip install 'codex-network-proxy[otel]'": "it needs a package index; the extra is compared with the lock files",
    'pip install "httpx[socks]"': "it needs a package index; the tests' own environment has both",
    ".venv/bin/pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-http": "it needs a package index",
}
