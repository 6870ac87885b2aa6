"""The README's own commands, with the real tools: what a reader types gives what the reader is shown."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kit.clients import Done, need, run
from tests.kit.hooks import CANARY
from tests.kit.index_origin import NAME, make_wheel, package_index
from tests.kit.npm_origin import npm_registry
from tests.kit.origins import Exchange, HttpOrigin, echo
from tests.kit.policies import LOOPBACK, OPEN
from tests.kit.process import REPO
from tests.kit.proxy import ProxyProcess
from tests.kit.recipes import (
    CHECK,
    CURL_ALLOWED,
    CURL_BLOCKED,
    CURL_TUNNEL_BLOCKED,
    CURL_VERBOSE,
    HOOK_CURL,
    HOOK_VARIABLES,
    RUN_NPM,
    RUN_PIP,
    START,
    UPSTREAM,
    block_of,
    codex_proxy,
    readme,
    recipe,
)
from tests.kit.run_command import Runner
from tests.kit.tls import TestAuthority
from tests.kit.upstream_proxy import UpstreamProxyServer

FREE_PORTS = 'proxy_url = "http://127.0.0.1:0"\nsocks_url = "http://127.0.0.1:0"\n'
BUILT_IN = (REPO / "policy" / "default_config.toml").read_text() + FREE_PORTS
API = "api.github.com"


def shell(line: str, folder: Path, **environment: str) -> Done:
    return run(["sh", "-c", line], folder, environment)


def without_id(text: str) -> str:
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]+", "ID", text)


def hello(exchange: Exchange) -> None:
    exchange.answer(b"hello from this machine\n")


def test_the_first_screen(tmp_path: Path) -> None:
    """With the built-in profile, as on the first start."""
    need("curl")
    shown = block_of(CURL_ALLOWED).shown
    with ProxyProcess(tmp_path, BUILT_IN) as proxy, HttpOrigin("hello", {"hello.txt": hello}) as origin:
        for address, door in ((proxy.http, "HTTP"), (proxy.socks, "SOCKS5")):
            proxy.until_printed(f"{door} proxy listening on {address}")
        allowed = shell(recipe(CURL_ALLOWED, proxy, {"localhost:8000": f"localhost:{origin.port}"}), tmp_path)
        assert allowed.out.strip() == shown(CURL_ALLOWED)
        blocked = shell(recipe(CURL_BLOCKED, proxy), tmp_path)
        assert without_id(blocked.out) == without_id(shown(CURL_BLOCKED))
        tunnel = shell(recipe(CURL_TUNNEL_BLOCKED, proxy), tmp_path)
        assert (tunnel.code, tunnel.err.splitlines()[-1]) == (56, shown(CURL_TUNNEL_BLOCKED))
        assert set(proxy.world.dials()) == {(LOOPBACK, origin.port)}


def test_a_refused_tunnel_tells_why(tmp_path: Path) -> None:
    need("curl")
    with ProxyProcess(tmp_path, BUILT_IN) as proxy:
        said = without_id(shell(recipe(CURL_VERBOSE, proxy), tmp_path).err).splitlines()
    shown = without_id(block_of(CURL_VERBOSE).shown(CURL_VERBOSE)).splitlines()
    assert [line for line in said if line in shown] == shown


def test_what_check_prints(tmp_path: Path) -> None:
    wrong = 'enabled = true\nmode = "ful"\nallowed_domians = ["api.example.com"]\n'
    (tmp_path / "config.toml").write_text(
        f'default_permissions = "workspace"\n\n[permissions.workspace.network]\n{wrong}'
    )
    line = recipe(CHECK, places={START: str(codex_proxy(tmp_path))})
    done = shell(line, tmp_path, CODEX_HOME=str(tmp_path))
    assert done.code == 1
    assert (done.out + done.err).replace(f"{tmp_path}/", "").strip() == block_of(CHECK).shown(CHECK)


def test_a_shell_that_reads_the_completion(tmp_path: Path) -> None:
    path = f"{codex_proxy(tmp_path).parent}:{Path(need('bash')).parent}:/usr/bin:/bin"
    line = recipe("source <(codex-proxy completion bash)")
    done = run(["bash", "--norc", "-c", f"{line}; complete -p codex-proxy"], tmp_path, {"PATH": path})
    assert done.out == "complete -o filenames -F _codex_proxy codex-proxy\n", done
    if fish := shutil.which("fish"):
        line = recipe("codex-proxy completion fish | source")
        done = run([fish, "--no-config", "-c", f"{line}; complete -c codex-proxy"], tmp_path, {"PATH": path})
        assert "explain" in done.out, done


# -- a hook ----------------------------------------------------------------------------------------------------------


def test_a_hook_lets_one_repository_through(authority: TestAuthority, tmp_path: Path, fast_path: bool) -> None:
    need("curl")
    (config,) = (block.text for block in readme()[0] if block.language == "toml" and "acme/website" in block.text)
    config = config.replace("enabled = true\n", f"enabled = true\nallow_local_binding = true\n{FREE_PORTS}")
    environment = {"GITHUB_TOKEN": CANARY, "SSL_CERT_FILE": str(authority.bundle)}
    pin = ["--resolve", f"{API}={LOOPBACK}"]
    with (
        HttpOrigin("api", {"repos": echo}, tls=authority.server_context(API)) as origin,
        ProxyProcess(tmp_path, config, fast_path=fast_path, environment=environment, arguments=pin) as proxy,
    ):
        variables = recipe(HOOK_VARIABLES, proxy)
        refused = recipe(HOOK_CURL, places={API: f"{API}:{origin.port}"})
        done = shell(f"{variables}\n{refused}", tmp_path)
        assert done.out.strip() == block_of(HOOK_CURL).shown(HOOK_CURL), done
        assert not origin.recorder.heads
        passed = refused.replace("/user/repos", "/repos/acme/website/issues")
        done = shell(f"{variables}\n{passed}", tmp_path)
        assert f'"Bearer {CANARY}"' in done.out, "the origin echoes what was added"
        assert CANARY not in proxy.output


# -- a company's proxy -----------------------------------------------------------------------------------------------


def test_the_way_through_a_companys_proxy(tmp_path: Path, origin: HttpOrigin, fast_path: bool) -> None:
    with UpstreamProxyServer("user:password") as company:
        line = recipe(UPSTREAM, places={"proxy.corp.example:8080": company.address, "intranet.example": "sub.test"})
        *variables, command = shlex.split(line)
        assert command == START
        environment = dict(variable.split("=", 1) for variable in variables)
        with ProxyProcess(tmp_path, OPEN, fast_path=fast_path, environment=environment) as proxy:
            for host in ("allowed.test", "a.sub.test"):
                tunnel = [need("curl"), "-sS", "-p", "-x", f"http://{proxy.http}", f"http://{host}:{origin.port}/t"]
                done = run(tunnel, tmp_path)
                assert (done.code, done.out) == (0, "ok from shared\n"), done
        assert company.asked == [f"CONNECT allowed.test:{origin.port}"]


# -- one command -----------------------------------------------------------------------------------------------------

INDEX, FILES = "index.test", "files.test"


def wheel_elsewhere(exchange: Exchange) -> None:
    """An index whose files lie at another host, as PyPI's do."""
    page = f'<a href="https://{FILES}:{exchange.origin.port}/simple/files/{NAME}">{NAME}</a>'
    exchange.answer(page.encode(), "content-type: text/html")


def test_pip_in_a_proxy_of_its_own_and_the_fix_that_is_proposed(authority: TestAuthority, tmp_path: Path) -> None:
    pytest.importorskip("pip", reason="this environment has no pip")
    policy = replace(OPEN, allowed=(), pins=((INDEX, LOOPBACK), (FILES, LOOPBACK)))
    routes = {"index": wheel_elsewhere, "simple": package_index}
    with HttpOrigin("index", routes, tls=authority.server_context(INDEX, FILES)) as origin:
        settings = {
            "PIP_INDEX_URL": f"https://{INDEX}:{origin.port}/index",
            "PIP_CERT": str(authority.bundle),
            "PIP_RETRIES": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_CONFIG_FILE": "/dev/null",
        }
        runner = Runner(tmp_path / "home", policy, settings)
        line = recipe(
            RUN_PIP, places={"pypi.org": INDEX, "install requests": f"install --target {tmp_path / 'got'} kit-demo"}
        )
        words = shlex.split(line)
        options, (_, *arguments) = words[2 : words.index("--")], words[words.index("--") + 1 :]
        pip = [sys.executable, "-P", "-m", "pip"]
        done = runner.run(*pip, *arguments, options=options)
        where = f"{FILES}:{origin.port}"
        *_, wrong = (said for said in done.err.splitlines() if said.startswith("ERROR"))
        shown = block_of(RUN_PIP).shown(RUN_PIP).replace("6", "2").replace("files.pythonhosted.org:443", where)
        start, *report = shown.splitlines()
        assert done.code == 1, done
        assert wrong.startswith(start.replace("files.pythonhosted.org", FILES).replace("443", str(origin.port))[:-1])
        assert done.err.splitlines()[-2:] == report
        proposed = report[-1].split()[-2:]
        done = runner.run(*pip, *arguments, options=[*options, *proposed])
        assert done.code == 0, done
        assert (tmp_path / "got" / "kit_demo.py").exists()
        done = runner.run(*pip, "download", "kit-demo", options=[*options, *proposed])
        assert (done.code, done.err) == (0, ""), done
    assert (runner.home / NAME).read_bytes() == make_wheel()


def test_npm_in_a_proxy_of_its_own(authority: TestAuthority, tmp_path: Path) -> None:
    need("npm")
    name = "a.sub.test"
    with HttpOrigin("npm", {"npm": npm_registry}, tls=authority.server_context(name)) as origin:
        settings = {
            "npm_config_registry": f"https://{name}:{origin.port}/npm/",
            "npm_config_globalconfig": "/dev/null",
            "npm_config_audit": "false",
            "NODE_EXTRA_CA_CERTS": str(authority.bundle),
        }
        runner = Runner(tmp_path / "home", OPEN, settings)
        (runner.home / "package.json").write_text('{"name": "mine", "dependencies": {"@kit/scoped": "1"}}')
        _, _, _, *command = shlex.split(recipe(RUN_NPM))
        done = runner.run(*command)
        assert done.code == 0, done
    assert (runner.home / "node_modules" / "@kit" / "scoped").is_dir()
    assert (runner.home / "node_modules" / "kit-demo").is_dir()
