"""A program that embeds the proxy keeps what is its own: logging, environment, collector, signals, mitmproxy."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.kit.hooks import CANARY, SECRET_VARIABLE
from tests.kit.origins import HttpOrigin
from tests.kit.process import REPO, clean_environment, python
from tests.kit.tls import TestAuthority

# What the program does, and what of the process it looks at before and after.
PROGRAM = """
import asyncio, gc, json, logging, os, resource, signal, ssl, sys, threading

HOST, PORT, HOME = sys.argv[1], int(sys.argv[2]), sys.argv[3]
STATE = {}

def state():
    import mitmproxy.http, mitmproxy.net.tls, mitmproxy.proxy.mode_servers as servers
    return {
        "root handlers": [str(handler) for handler in logging.getLogger().handlers],
        "root level": logging.getLogger().level,
        "our handlers": [str(handler) for handler in logging.getLogger("codex_network_proxy").handlers],
        "environment": sorted(os.environ),
        "frozen": gc.get_freeze_count(),
        "collector": gc.isenabled(),
        "signals": [id(signal.getsignal(number)) for number in signal.valid_signals()],
        "descriptors allowed": resource.getrlimit(resource.RLIMIT_NOFILE),
        "key log": str(mitmproxy.net.tls.log_master_secret),
        "messages": mitmproxy.http.MessageData.__post_init__.__qualname__,
        "connections": servers.ProxyConnectionHandler.__module__,
        "threads": [thread.name for thread in threading.enumerate()],
        "loop policy": type(asyncio.get_event_loop_policy()).__name__,
        "hooks": [str(sys.excepthook), str(threading.excepthook), str(sys.unraisablehook)],
    }

async def ask(proxy):
    host, port = proxy.http_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    target = f"{HOST}:{PORT}"
    writer.write(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    await reader.readuntil(b"\\r\\n\\r\\n")
    trust = ssl.create_default_context(cafile=os.path.join(HOME, "proxy", "ca.pem"))
    await writer.start_tls(trust, server_hostname=HOST)
    writer.write(f"GET /t HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    answer = await reader.readuntil(b"\\r\\n\\r\\n")
    writer.transport.abort()
    return answer.decode().split(" ")[1]

async def main():
    from codex_network_proxy import NetworkProxy
    hook = {"host": HOST, "match": {"methods": ["GET"], "path_prefixes": ["/"]},
            "actions": {"inject_request_headers": [{"name": "authorization", "secret_env_var": "KIT_TOKEN"}]}}
    table = {"enabled": True, "allowed_domains": [HOST], "mitm": True, "mitm_hooks": [hook],
             "allow_local_binding": True, "proxy_url": "http://127.0.0.1:0", "socks_url": "http://127.0.0.1:0"}
    builder = NetworkProxy.builder().config(table).home(HOME).resolve(HOST, "127.0.0.1")
    STATE["beside"] = state()
    async with builder.start() as proxy:
        status = await ask(proxy)
        STATE["during"] = state()
    return status

logging.basicConfig(level=logging.DEBUG, filename=os.path.join(HOME, "program.log"))
STATE["before"] = state()
STATE["status"] = asyncio.run(main())
STATE["after"] = state()
print(json.dumps(STATE))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, tls_origin: HttpOrigin, authority: TestAuthority) -> dict[str, Any]:
    """What the program saw, and what it left behind."""
    home = tmp_path_factory.mktemp("embedding")
    environment = clean_environment(
        home,
        PYTHONPATH=str(REPO / ".typing"),
        SSL_CERT_FILE=str(authority.bundle),
        # The engine reads this one and the usual one, which Python's own client would obey, too.
        MITMPROXY_SSLKEYLOGFILE=str(home / "keys.log"),
        **{SECRET_VARIABLE: CANARY},
    )
    done = subprocess.run(
        python("-W", "error", "-c", PROGRAM, "hooked.allowed.test", str(tls_origin.port), str(home)),
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    files = {str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()}
    return seen | {"stdout": done.stdout, "stderr": done.stderr, "files": files, "home": home}


def test_a_request_that_was_read_has_passed(told: dict[str, Any], tls_origin: HttpOrigin) -> None:
    assert told["status"] == "200"
    assert CANARY in str(tls_origin.requests[-1].fields)


def test_nothing_of_the_process_is_other_than_before(told: dict[str, Any]) -> None:
    assert told["after"] == told["before"]


def test_while_it_runs_only_threads_are_added(told: dict[str, Any]) -> None:
    before, during = dict(told["beside"]), dict(told["during"])
    threads = set(during.pop("threads")) - set(before.pop("threads"))
    assert during == before
    assert {name.split(" /")[0] for name in threads} <= {"codex-network-proxy", "codex audit log", "codex-lookup"}


def test_nothing_is_printed(told: dict[str, Any]) -> None:
    assert told["stderr"] == ""
    assert len(told["stdout"].splitlines()) == 1


def test_the_programs_log_holds_our_lines_and_neither_the_engines_nor_a_secret(told: dict[str, Any]) -> None:
    log = (told["home"] / "program.log").read_text()
    assert "INFO:codex_network_proxy:HTTP proxy listening on" in log
    assert "mitmproxy" not in log
    assert "hpack" not in log
    assert CANARY not in log


def test_files_are_written_where_they_belong_and_session_keys_nowhere(told: dict[str, Any]) -> None:
    proxy = {"ca.key", "ca.pem", "ca-bundle.pem", "upstream-roots.pem"}
    expected = {"program.log", "log/network-proxy.jsonl", *(f"proxy/{name}" for name in proxy)}
    assert {file for file in told["files"] if not file.endswith(".lock")} == expected


def test_importing_the_package_loads_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys, codex_network_proxy as c\n"
        "heavy = {'pydantic', 'mitmproxy', 'asyncio', 'cryptography', 'OpenSSL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert c.NetworkDecision.allow() and 'mitmproxy' not in sys.modules\n"
        "assert c.NetworkProxy.builder() and 'mitmproxy' not in sys.modules\n"
    )
    environment = clean_environment(tmp_path, PYTHONPATH=str(REPO / ".typing"))
    subprocess.run(python("-c", code), env=environment, cwd=tmp_path, check=True, timeout=60)
