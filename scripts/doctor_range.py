"""Where the doctor tries programs: a proxy and two origins on loopback, which see what comes and from where."""

from __future__ import annotations

import os
import signal
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.java_trust import write_java_roots
from codex_network_proxy.addons.leaf_certificates import LeafCertificates
from codex_network_proxy.addons.network_proxy import NetworkProxy
from codex_network_proxy.policy.audit import PolicyDecisionEvent
from codex_network_proxy.policy.child_env import ChildRoute, child_env
from codex_network_proxy.policy.hosts import parse_host

from .doctor_findings import TIME_LIMIT, Trial, Way, telling
from .doctor_tools import HOSTS, LOOPBACK, Tool, Try


class Origin(socketserver.ThreadingTCPServer):
    """Answers `404` to everything, which ends every program at once; counts connections and requests."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__((LOOPBACK, 0), _NotFound)
        self._tls = tls
        self.connections = self.requests = 0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.settimeout(TIME_LIMIT)
        super().finish_request(
            self._tls.wrap_socket(request, server_side=True) if self._tls else request, client_address
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what is looked for."""

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _NotFound(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Origin)
        self.server.requests += 1
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal is for the findings."""


@dataclass(frozen=True, slots=True)
class Range:
    """The place for all trials: a folder that goes away afterwards, and certificates for the origins."""

    folder: Path
    tls: ssl.SSLContext
    roots: Path

    @staticmethod
    @contextmanager
    def open() -> Iterator[Range]:
        with tempfile.TemporaryDirectory(prefix="codex-doctor-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "origins").mkdir()
            (folder / "home").mkdir()
            authority = load_or_create(folder / "origins")
            yield Range(folder, _server_context(authority, folder / "origins"), authority.path)

    def trial(self, tool: Tool, program: str, environ: Mapping[str, str]) -> Trial:
        """Lets one program fetch something in clear and over HTTPS, through a proxy of its own."""
        events: list[PolicyDecisionEvent] = []
        with Origin() as plain, Origin(self.tls) as secure:
            with self._proxy(events, plain.port, secure.port) as proxy:
                env = child_env(environ, self._route(proxy, java=tool.name == "java"))
                host, until = tool.host, time.monotonic() + TIME_LIMIT
                urls = (f"http://{host}:{plain.port}", f"https://{host}:{secure.port}")
                ends = [self._call(tool, program, url, env, until) for url in urls]
            # The proxy has ended: it has told everything.
            asked = {event.port for event in events}
            late, said = any(end.late for end in ends), next((end.said for end in reversed(ends) if end.said), "")
            return Trial(_way(plain, asked), _way(secure, asked), secure.requests > 0, late, said)

    def _proxy(self, events: list[PolicyDecisionEvent], *ports: int) -> NetworkProxy:
        """Limited mode reads all HTTPS, so a program has to trust the authority."""
        network = {
            "enabled": True,
            "mode": "limited",
            "mitm": True,
            "enable_socks5": False,
            "allow_local_binding": True,
            "allow_upstream_proxy": False,
            "allowed_domains": [f"{host}:{port}" for host in HOSTS for port in ports],
        }
        builder = NetworkProxy.builder().environ({"SSL_CERT_FILE": str(self.roots)}).home(self.folder / "home")
        builder.config(network).audit_observer(events.append)
        for name in HOSTS[1:]:
            builder.resolve(name, LOOPBACK)
        return builder.http_addr(f"{LOOPBACK}:0").start_sync()

    def _route(self, proxy: NetworkProxy, *, java: bool) -> ChildRoute:
        bundle = self.folder / "home" / "proxy" / "ca-bundle.pem"
        roots = write_java_roots(bundle) if java else None
        return ChildRoute(
            proxy.http_address, ca_bundle=str(bundle), java=java, java_roots=str(roots) if roots else None
        )

    def _call(self, tool: Tool, program: str, url: str, env: Mapping[str, str], until: float) -> Ended:
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        one = Try(program, url, folder)
        kept = {"XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)}
        return run_bounded(tool.command(one), {**env, **kept, **tool.environment(one)}, folder, until)


def _way(origin: Origin, asked: set[int]) -> Way:
    if origin.port in asked:
        return Way.PROXY
    return Way.DIRECT if origin.connections else Way.NONE


def _server_context(authority: CertificateAuthority, folder: Path) -> ssl.SSLContext:
    """A certificate for each host; the client says which one it wants."""
    leaves = LeafCertificates(authority)
    contexts = {}
    for host in HOSTS:
        leaf = leaves.for_host(parse_host(host))
        chain = folder / f"{host}.pem"
        key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain.write_bytes(key + leaf.certificate.public_bytes(Encoding.PEM))
        contexts[host] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[host].load_cert_chain(chain)

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        connection.context = contexts.get(name or LOOPBACK, contexts[LOOPBACK])

    contexts[LOOPBACK].sni_callback = choose
    return contexts[LOOPBACK]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended: the most telling line of its complaints, all it printed, and whether time ran out."""

    said: str
    printed: str = ""
    late: bool = False


def run_bounded(command: list[str], env: Mapping[str, str], folder: Path, until: float) -> Ended:
    """Runs a program, at the latest until then (`time.monotonic`), and leaves nothing of it behind."""
    try:
        child = subprocess.Popen(  # noqa: S603  # the programs of the user, which are to be tried
            command,
            cwd=folder,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Ended(error.strerror or type(error).__name__)
    late = False
    try:
        outputs = child.communicate(timeout=max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        late = True
        os.killpg(child.pid, signal.SIGKILL)
        outputs = child.communicate()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)  # whatever it left behind in its session
    printed, complaints = (output.decode(errors="replace") for output in outputs)
    return Ended(telling(complaints) if child.returncode else "", printed + complaints, late)
