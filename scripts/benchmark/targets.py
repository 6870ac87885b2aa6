"""Who is compared: our proxy, a direct connection, stock mitmdump, and other proxies when they are installed."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .origin import Ports
from .scenarios import INTERCEPTED_NAME, TUNNELLED_NAME, Scenario, Way
from .workers import clean_environment, free_port

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "not-a-secret"

OURS, DIRECT, STOCK, TINYPROXY, SQUID = "codex-proxy", "direct", "mitmdump", "tinyproxy", "squid"


@dataclass(frozen=True, slots=True)
class Target:
    """A way to the origin. Without a command there is no proxy in it."""

    name: str
    folder: Path
    trust: Path  # who signs what a client is shown in an intercepted tunnel
    port: int = 0
    command: Sequence[str | Path] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    reads_tls: bool = True
    socks: int = 0  # the port for SOCKS5, if there is one

    def door(self, scenario: Scenario) -> int:
        """The port that a client of this scenario connects to."""
        return self.socks if scenario.way is Way.SOCKS else self.port

    def can(self, scenario: Scenario) -> bool:
        if scenario.denied:
            return bool(self.command)
        if scenario.way is Way.SOCKS and self.command:
            return bool(self.socks)
        return self.reads_tls or not scenario.intercepted


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every target needs to know: a folder of its own to work in, the origin, and who signed for it."""

    folder: Path
    ports: Ports
    authority: Path


def allowed_patterns(count: int) -> list[str]:
    """Patterns as people write them, and the two names of the origin."""
    kinds = ("host{}.bench.test", "*.zone{}.bench.test", "**.tree{}.bench.test", "api{}.bench.test:443")
    made = [kinds[number % len(kinds)].format(number) for number in range(count - 2)]
    return [*made, TUNNELLED_NAME, INTERCEPTED_NAME]


def allowed_names(count: int) -> list[str]:
    """As many plain names, for those that know nothing else."""
    return [*(f"host{number}.bench.test" for number in range(count - 2)), TUNNELLED_NAME, INTERCEPTED_NAME]


def targets(around: Surroundings, patterns: int, wanted: Sequence[str]) -> list[Target]:
    """The wanted ones that exist on this machine, in their order here; ours comes first."""
    made: list[Target] = []
    for name, make in {OURS: ours, DIRECT: direct, STOCK: stock, TINYPROXY: tinyproxy, SQUID: squid}.items():
        program = shutil.which(name, path=f"{clean_environment(around.folder)['PATH']}:/usr/sbin:/usr/local/sbin")
        if name in wanted and (name not in (TINYPROXY, SQUID) or program):
            folder = around.folder / name
            folder.mkdir(parents=True)
            made.append(make(around, folder, patterns, program or ""))
    return made


def direct(around: Surroundings, folder: Path, patterns: int, program: str) -> Target:
    return Target(DIRECT, folder, around.authority)


def ours(around: Surroundings, folder: Path, patterns: int, program: str) -> Target:
    port, socks = free_port(), free_port()
    config = folder / "config.toml"
    config.write_text(our_config(port, socks, allowed_patterns(patterns)))
    command: list[str | Path] = [sys.executable, "-I", ROOT / "scripts" / "launch.py", "serve", "--config", config]
    environment = clean_environment(
        folder, CODEX_HOME=str(folder), SSL_CERT_FILE=str(around.authority), BENCH_TOKEN=TOKEN
    )
    return Target(OURS, folder, folder / "proxy" / "ca.pem", port, command, environment, socks=socks)


def our_config(port: int, socks: int, patterns: Sequence[str]) -> str:
    """Tunnels to the origin's address pass unread, those to its name are intercepted and get a header."""
    return f"""default_permissions = "bench"
[permissions.bench.network]
enabled = true
mitm = true
proxy_url = "http://127.0.0.1:{port}"
socks_url = "http://127.0.0.1:{socks}"
allowed_domains = {json.dumps(patterns)}
[[permissions.bench.network.mitm_hooks]]
host = "{INTERCEPTED_NAME}"
[permissions.bench.network.mitm_hooks.match]
methods = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"]
path_prefixes = ["/"]
[[permissions.bench.network.mitm_hooks.actions.inject_request_headers]]
name = "authorization"
secret_env_var = "BENCH_TOKEN"
prefix = "Bearer "
"""


def stock(around: Surroundings, folder: Path, patterns: int, program: str) -> Target:
    port, socks = free_port(), free_port()
    names = folder / "allowed"
    names.write_text("\n".join(allowed_names(patterns)))
    options = {"confdir": folder, "listen_host": "127.0.0.1", "flow_detail": 0} | {
        "ssl_verify_upstream_trusted_ca": around.authority,
        # What we do not read, it need not read either.
        "ignore_hosts": rf"^{TUNNELLED_NAME.replace('.', '[.]')}:{around.ports.plain}$",
    }
    settings = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    settings += ["--mode", f"regular@{port}", "--mode", f"socks5@{socks}"]
    engine = "from mitmproxy.tools.main import mitmdump; mitmdump()"
    script = Path(__file__).with_name("stock_script.py")
    command: list[str | Path] = [sys.executable, "-I", "-c", engine, "-q", "-s", script, *settings]
    environment = clean_environment(folder, BENCH_ALLOWED=str(names), BENCH_TOKEN=TOKEN)
    return Target(STOCK, folder, folder / "mitmproxy-ca-cert.pem", port, command, environment, socks=socks)


def tinyproxy(around: Surroundings, folder: Path, patterns: int, program: str) -> Target:
    port = free_port()
    config, names = folder / "tinyproxy.conf", folder / "allowed"
    names.write_text("".join(f"^{name.replace('.', '[.]')}$\n" for name in allowed_names(patterns)))
    config.write_text(f"""Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 2000
LogFile "{folder / "log"}"
LogLevel Connect
Filter "{names}"
FilterExtended On
FilterDefaultDeny Yes
""")
    command: list[str | Path] = [program, "-d", "-c", config]
    return Target(TINYPROXY, folder, folder, port, command, clean_environment(folder), reads_tls=False)


def squid(around: Surroundings, folder: Path, patterns: int, program: str) -> Target:
    port = free_port()
    config, names = folder / "squid.conf", folder / "allowed"
    # It may give up root's rights, and has to write here.
    folder.chmod(0o777)
    names.write_text("\n".join(allowed_names(patterns)))
    config.write_text(f"""http_port 127.0.0.1:{port}
acl allowed dstdomain -n "{names}"
http_access allow allowed
http_access deny all
access_log stdio:{folder / "access.log"}
cache_log {folder / "cache.log"}
cache deny all
cache_mem 0
pid_filename none
coredump_dir {folder}
pinger_enable off
shutdown_lifetime 0 seconds
""")
    command: list[str | Path] = [program, "-N", "-f", config]
    return Target(SQUID, folder, folder, port, command, clean_environment(folder), reads_tls=False)
