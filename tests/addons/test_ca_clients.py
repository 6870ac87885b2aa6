"""Real clients believe our certificates once they are told to, and not before."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.leaf_certificates import LeafCertificates
from codex_network_proxy.addons.trust import TrustSources, trusted_roots, write_child_bundle
from codex_network_proxy.policy.hosts import parse_host
from tests.kit.interceptor import Interceptor
from tests.kit.process import clean_environment

NAME = "api.example.com"
LONG = ".".join(["a" * 50, "b" * 50, "example", "com"])
IPV4, IPV6 = "192.0.2.7", "[2001:db8::7]"


@dataclass(frozen=True)
class Place:
    """What a client needs to know to reach `https://HOST/repo/info/refs` through the interceptor."""

    host: str
    proxy: str
    folder: Path
    bundle: Path
    authority: Path

    @property
    def url(self) -> str:
        return f"https://{self.host}/repo/info/refs"

    @property
    def port(self) -> str:
        return self.proxy.rpartition(":")[2]


@dataclass(frozen=True)
class Client:
    """A tool, how it is called, and the variable or options that make it trust the bundle."""

    tool: str
    command: tuple[str, ...]
    trust: dict[str, str] = field(default_factory=dict)
    trust_options: tuple[str, ...] = ()
    verb: tuple[str, ...] = ()
    hosts: tuple[str, ...] = (NAME, LONG, IPV4, IPV6)
    prepare: str | None = None


PROBE = "import sys, ssl; ssl.create_default_context(); sys.exit(sys.version_info[:2] != {version})"


@cache
def interpreter(name: str) -> str | None:
    """A Python of this minor version that runs, from PATH or from where pyenv keeps them."""
    version = tuple(int(part) for part in name.removeprefix("python").split("."))
    installed = (Path.home() / ".pyenv/versions").glob(f"{version[0]}.{version[1]}.*/bin/{name}")
    for candidate in filter(None, [sys.executable, shutil.which(name), *map(str, installed)]):
        probe = [candidate, "-c", PROBE.format(version=version)]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return candidate
    return None


@cache
def found(tool: str) -> str | None:
    if tool == "this python":
        return sys.executable
    return interpreter(tool) if tool.startswith("python3.") else shutil.which(tool)


URLLIB = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=20).read().decode())"
STRICT = (
    "import sys, ssl, urllib.request as u; c = ssl.create_default_context();"
    "c.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN;"
    "print(u.build_opener(u.HTTPSHandler(context=c)).open(sys.argv[1], timeout=20).read().decode())"
)
TLS12 = (
    "import sys, ssl, urllib.request as u; c = ssl.create_default_context();"
    "c.maximum_version = ssl.TLSVersion.TLSv1_2;"
    "print(u.build_opener(u.HTTPSHandler(context=c)).open(sys.argv[1], timeout=20).read().decode())"
)
REQUESTS = "import sys, requests; print(requests.get(sys.argv[1], timeout=20).text)"
HTTPX = "import sys, httpx; print(httpx.get(sys.argv[1], timeout=20).text)"
NODE = """
const [host, port] = process.argv.slice(1), bare = host.replace(/[\\[\\]]/g, '');
const ip = require('net').isIP(bare);
const connect = require('http').request({host: '127.0.0.1', port, method: 'CONNECT', path: host + ':443'});
connect.on('connect', (_, socket) => {
  const options = ip ? {socket, host: bare} : {socket, servername: bare};
  const tls = require('tls').connect(options, () => tls.write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'));
  tls.pipe(process.stdout);
  tls.on('error', error => { console.error(error.code); process.exit(1); });
}).end();
"""
JAVA = """
import java.net.*;
class Get {
  public static void main(String[] arguments) throws Exception {
    Proxy proxy = new Proxy(Proxy.Type.HTTP, new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[1])));
    URLConnection connection = new URL(arguments[0]).openConnection(proxy);
    System.out.write(connection.getInputStream().readAllBytes());
    System.out.flush();
  }
}
"""
GO = """
package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
  answer, err := http.Get(os.Args[1])
  if err != nil { fmt.Println(err); os.Exit(1) }
  io.Copy(os.Stdout, answer.Body)
}
"""
S_CLIENT = ("-quiet", "-proxy", "127.0.0.1:{port}", "-connect", "{host}:443", "-verify_return_error", "-x509_strict")
GIT = ("-c", "http.version=HTTP/1.1", "ls-remote", "https://{host}/repo")
OPENSSL, CURL = {"SSL_CERT_FILE": "{bundle}"}, {"CURL_CA_BUNDLE": "{bundle}"}

CLIENTS = {
    "python3.12": Client("python3.12", ("-c", URLLIB, "{url}"), OPENSSL),
    "python3.12 strict": Client("python3.12", ("-c", STRICT, "{url}"), OPENSSL),
    "python3.12 TLS 1.2": Client("python3.12", ("-c", TLS12, "{url}"), OPENSSL, hosts=(NAME,)),
    "python3.13, which is strict": Client("python3.13", ("-c", URLLIB, "{url}"), OPENSSL),
    "python3.14, which is strict": Client("python3.14", ("-c", URLLIB, "{url}"), OPENSSL),
    "requests": Client("this python", ("-c", REQUESTS, "{url}"), {"REQUESTS_CA_BUNDLE": "{bundle}"}),
    "httpx": Client("this python", ("-c", HTTPX, "{url}"), OPENSSL, hosts=(NAME, LONG, IPV4)),
    "curl": Client("curl", ("-sS", "{url}"), CURL),
    "curl with SSL_CERT_FILE": Client("curl", ("-sS", "{url}"), OPENSSL, hosts=(NAME,)),
    "curl with TLS 1.2": Client("curl", ("-sS", "--tls-max", "1.2", "{url}"), CURL, hosts=(NAME,)),
    "git": Client("git", GIT, {"GIT_SSL_CAINFO": "{bundle}"}),
    "wget": Client(
        "wget", ("-nv", "-O-", "{url}"), trust_options=("--ca-certificate={bundle}",), hosts=(NAME, LONG, IPV4)
    ),
    "node": Client("node", ("-e", NODE, "{host}", "{port}"), {"NODE_EXTRA_CA_CERTS": "{bundle}"}),
    "openssl": Client(
        "openssl", S_CLIENT, trust_options=("-CAfile", "{bundle}"), verb=("s_client",), hosts=(NAME, LONG, IPV4)
    ),
    "java": Client(
        "java",
        ("{folder}/Get.java", "{url}", "{port}"),
        trust_options=("-Djavax.net.ssl.trustStore={folder}/trust.p12", "-Djavax.net.ssl.trustStorePassword=changeit"),
        prepare="java",
    ),
    "go": Client("go", ("run", "{folder}/get.go", "{url}"), OPENSSL, prepare="go"),
}


def make_ready(client: Client, place: Place) -> None:
    """What cannot be said on a command line."""
    match client.prepare:
        case "java":
            (place.folder / "Get.java").write_text(JAVA)
            store = ["-keystore", str(place.folder / "trust.p12"), "-storepass", "changeit"]
            keytool = ["keytool", "-importcert", "-noprompt", "-alias", "proxy", "-file", str(place.authority), *store]
            subprocess.run(keytool, check=True, capture_output=True)
        case "go":
            (place.folder / "get.go").write_text(GO)


def filled(text: str, place: Place) -> str:
    values = {"url": place.url, "host": place.host, "port": place.port, "folder": place.folder, "bundle": place.bundle}
    for name, value in values.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text


def environment(client: Client, place: Place, *, trusting: bool) -> dict[str, str]:
    """Nothing of this machine's proxies and authorities."""
    proxy = dict.fromkeys(("https_proxy", "HTTPS_PROXY"), place.proxy)
    trust = {name: filled(value, place) for name, value in client.trust.items()} if trusting else {}
    # Compiling its library once is enough.
    cache = {"GOCACHE": str(place.authority.parent.parent / "go")} if client.prepare == "go" else {}
    return clean_environment(place.folder, **proxy, **trust, **cache)


def run(client: Client, place: Place, *, trusting: bool) -> subprocess.CompletedProcess[str]:
    tool = found(client.tool)
    if tool is None:
        pytest.skip(f"{client.tool} is not installed")
    make_ready(client, place)
    options = client.trust_options if trusting else ()
    words = [filled(word, place) for word in (*client.verb, *options, *client.command)]
    return subprocess.run(
        [tool, *words],
        input="GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        env=environment(client, place, trusting=trusting),
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return load_or_create(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def bundle(ca: CertificateAuthority) -> Path:
    directory = ca.path.parent
    return write_child_bundle(directory, ca, trusted_roots(directory, ca, TrustSources.of({})))


@pytest.fixture(scope="module")
def interceptor(ca: CertificateAuthority) -> Iterator[Interceptor]:
    running = Interceptor(ca)
    yield running
    running.close()


Visit = Callable[[str], Place]


@pytest.fixture
def visit(interceptor: Interceptor, bundle: Path, ca: CertificateAuthority, tmp_path: Path) -> Visit:
    return lambda host: Place(host, interceptor.url, tmp_path, bundle, ca.path)


KINDS = {NAME: "a name", LONG: "a long name, so an empty subject", IPV4: "IPv4", IPV6: "IPv6"}
ROWS = [
    pytest.param(client, host, id=f"{name}: {KINDS[host]}") for name, client in CLIENTS.items() for host in client.hosts
]


@pytest.mark.parametrize(("client", "host"), ROWS)
def test_a_client_that_is_told_to_trust_us_does(client: Client, host: str, visit: Visit) -> None:
    answer = run(client, visit(host), trusting=True)
    assert "refs/heads/main" in answer.stdout, answer.stderr


UNTRUSTED = re.compile(r"certificate|verif|PKIX|x509|SELF_SIGNED|unable to get local issuer", re.IGNORECASE)


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_that_is_not_told_does_not(name: str, visit: Visit) -> None:
    answer = run(CLIENTS[name], visit(NAME), trusting=False)
    assert "refs/heads/main" not in answer.stdout
    assert answer.returncode != 0
    assert UNTRUSTED.search(answer.stderr + answer.stdout), answer


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_the_protocol_version_is_negotiated(version: str, visit: Visit, interceptor: Interceptor) -> None:
    run(CLIENTS["curl with TLS 1.2" if version == "1.2" else "curl"], visit(NAME), trusting=True)
    assert interceptor.versions[-1] == f"TLSv{version}"


@pytest.mark.parametrize(
    ("host", "check"),
    [
        pytest.param(NAME, ("-verify_hostname", NAME), id="a name"),
        pytest.param(LONG, ("-verify_hostname", LONG), id="a long name"),
        pytest.param(IPV4, ("-verify_ip", IPV4), id="IPv4"),
        pytest.param(IPV6, ("-verify_ip", IPV6.strip("[]")), id="IPv6"),
    ],
)
def test_openssl_verify_is_content(
    ca: CertificateAuthority, bundle: Path, tmp_path: Path, host: str, check: tuple[str, ...]
) -> None:
    openssl = found("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    leaf = tmp_path / "leaf.pem"
    certificate = LeafCertificates(ca).for_host(parse_host(host)).certificate
    leaf.write_bytes(certificate.public_bytes(Encoding.PEM))
    strictly = ["-x509_strict", "-check_ss_sig", "-policy_check", "-purpose", "sslserver", "-CAfile", str(bundle)]
    command = [openssl, "verify", *strictly, *check, str(leaf)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment(tmp_path))
    assert answer.stdout == f"{leaf}: OK\n", answer.stderr
