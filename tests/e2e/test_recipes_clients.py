"""The variables of the README send each tool that it names through the proxy, and what is blocked does not arrive."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.clients import need, run
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.recipes import ENV, HTTP_ADDRESS, START, VARIABLES, codex_proxy, recipe, rows, script, told
from tests.kit.tls import TestAuthority
from tests.kit.tools import APT_HELPER, JAVA, TOOLS, UNTRIED, tools_origin

NAME = "a.sub.test"
ROWS = rows("Point a client at it")
SDKS = "and SDKs built on it"
schemes = pytest.mark.parametrize("scheme", ["http", "https"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="module")
def servers(root: Path, authority: TestAuthority) -> Iterator[dict[str, HttpOrigin]]:
    with tools_origin(root) as plain, tools_origin(root, authority.server_context(NAME)) as secure:
        yield {"http": plain, "https": secure}


@pytest.fixture
def proxy(fleet: Fleet) -> ProxyProcess:
    return fleet.get(OPEN)


CASES = [
    pytest.param(name, scheme, id=f"{name}, {scheme}")
    for name, tool in TOOLS.items()
    for scheme in ("http", "https")
    if scheme == "https" or tool.plain
]


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_what_is_allowed_arrives(
    name: str,
    scheme: str,
    proxy: ProxyProcess,
    servers: dict[str, HttpOrigin],
    authority: TestAuthority,
    tmp_path: Path,
) -> None:
    server, variables = servers[scheme], script(VARIABLES[0], proxy)
    base = f"{scheme}://{NAME}:{server.port}"
    done = TOOLS[name].fetch(tmp_path, base, variables, authority.bundle)
    assert (done.code, TOOLS[name].shows in done.out) == (0, True), done


@pytest.mark.parametrize(("name", "scheme"), CASES)
def test_what_is_not_allowed_does_not(
    name: str,
    scheme: str,
    proxy: ProxyProcess,
    servers: dict[str, HttpOrigin],
    authority: TestAuthority,
    tmp_path: Path,
) -> None:
    server, variables = servers[scheme], script(VARIABLES[0], proxy)
    mark = server.recorder.mark()
    done = TOOLS[name].fetch(tmp_path, f"{scheme}://evil.test:{server.port}", variables, authority.bundle)
    proxy.audit_events(1, lambda event: event["server.address"] == "evil.test" and event["server.port"] == server.port)
    assert TOOLS[name].shows not in done.out, done
    assert not server.recorder.since(mark)


@pytest.mark.parametrize("name", TOOLS)
def test_env_does_the_same(
    name: str, proxy: ProxyProcess, servers: dict[str, HttpOrigin], authority: TestAuthority, tmp_path: Path
) -> None:
    variables = recipe(ENV, places={START: f"CODEX_HOME={proxy.home} {codex_proxy(tmp_path)}"})
    base = f"https://{NAME}:{servers['https'].port}"
    done = TOOLS[name].fetch(tmp_path, base, variables, authority.bundle)
    assert (done.code, TOOLS[name].shows in done.out) == (0, True), done


# -- told on their command lines -------------------------------------------------------------------------------------


@schemes
def test_java(
    scheme: str, proxy: ProxyProcess, servers: dict[str, HttpOrigin], authority: TestAuthority, tmp_path: Path
) -> None:
    flags = (
        ROWS["Java"][0].replace("127.0.0.1", proxy.http.partition(":")[0]).replace("3128", proxy.http.partition(":")[2])
    )
    store: list[str | Path] = ["-keystore", tmp_path / "trust.p12", "-storepass", "changeit"]
    keytool: list[str | Path] = [
        need("keytool"),
        "-importcert",
        "-noprompt",
        "-alias",
        "origin",
        "-file",
        authority.bundle,
        *store,
    ]
    assert run(keytool, tmp_path).code == 0
    (tmp_path / "Get.java").write_text(JAVA)
    trust = [f"-Djavax.net.ssl.trustStore={tmp_path}/trust.p12", "-Djavax.net.ssl.trustStorePassword=changeit"]
    command = [need("java"), *flags.replace("https.", f"{scheme}.").split(), *trust, "Get.java"]
    port = servers[scheme].port
    done = run([*command, f"{scheme}://{NAME}:{port}/t"], tmp_path)
    assert (done.code, done.out) == (0, "ok from tools\n"), done
    done = run([*command, f"{scheme}://evil.test:{port}/t"], tmp_path)
    assert (done.code, "403" in done.err) == (1, True), done


@schemes
def test_apt(
    scheme: str, proxy: ProxyProcess, servers: dict[str, HttpOrigin], authority: TestAuthority, tmp_path: Path
) -> None:
    line = ROWS["apt"][0].replace(HTTP_ADDRESS, proxy.http)
    lines = [line, line.replace("::http::", "::https::"), f'Acquire::https::CAInfo "{authority.bundle}";']
    (tmp_path / "apt.conf").write_text("\n".join([*lines, 'APT::Sandbox::User "root";', "Acquire::Retries 0;", ""]))
    environment = {"APT_CONFIG": str(tmp_path / "apt.conf")}
    port = servers[scheme].port
    done = run([need(APT_HELPER), "download-file", f"{scheme}://{NAME}:{port}/t", "got"], tmp_path, environment)
    assert (done.code, (tmp_path / "got").read_text()) == (0, "ok from tools\n"), done
    done = run([APT_HELPER, "download-file", f"{scheme}://evil.test:{port}/t", "no"], tmp_path, environment)
    assert (done.code, "403" in done.out + done.err) == (100, True), done


def test_npm_told_by_its_own_setting(
    proxy: ProxyProcess, servers: dict[str, HttpOrigin], authority: TestAuthority, tmp_path: Path
) -> None:
    setting = next(code for code in ROWS["npm"] if code.startswith("npm config"))
    before = told(setting, proxy)
    done = TOOLS["npm"].fetch(tmp_path, f"https://{NAME}:{servers['https'].port}", before, authority.bundle)
    assert (done.code, TOOLS["npm"].shows in done.out) == (0, True), done


def test_the_row_of_node_is_what_is_tried() -> None:
    assert ROWS["node"][0] in TOOLS["node"].line


def test_every_tool_of_the_table_is_tried() -> None:
    named = {
        name for cell in ROWS for name in re.split(r"[,()] *", cell.replace("Python ", "")) if name and name != SDKS
    }
    assert named == TOOLS.keys() | {"Java", "apt"} | named & UNTRIED.keys()
