from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from mitmproxy import options
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.connection import Client, ConnectionState, Server
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.tls import TlsStartClientHook
from mitmproxy.test import taddons
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from codex_network_proxy.addons import tls_certificates
from codex_network_proxy.addons.ca_files import CertificateAuthority, load_or_create
from codex_network_proxy.addons.leaf_certificates import LeafCertificates
from codex_network_proxy.addons.sessions import Session, close_session, open_session
from codex_network_proxy.addons.tls_certificates import TlsCertificates, tunnel_host
from codex_network_proxy.addons.upstream_tls import UpstreamTls
from codex_network_proxy.policy.decision import Allowed, NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import Endpoint, Host, parse_host

NAME = "api.example.com"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return load_or_create(tmp_path_factory.mktemp("home"))


@pytest.fixture
def addon(ca: CertificateAuthority) -> TlsCertificates:
    return TlsCertificates(LeafCertificates(ca), lambda _: parse_host(NAME))


def starting(*, sni: str | None = NAME, origin: bytes | None = None, transport: Any = "tcp") -> TlsData:
    """What the engine asks when a client's TLS is about to start."""
    client = Client(peername=("127.0.0.1", 5), sockname=("127.0.0.1", 6), state=ConnectionState.OPEN)
    client.sni, client.transport_protocol = sni, transport
    context = Context(client, options.Options())
    context.server = Server(address=("origin.example", 443))
    context.server.alpn = origin
    return TlsData(client, context, is_dtls=transport == "udp")


def ask(data: TlsData, *addons: object) -> SSL.Connection | None:
    """Runs the hook through the engine's own chain of addons."""
    with taddons.context(*addons) as engine:
        asyncio.run(engine.master.addons.trigger_event(TlsStartClientHook(data)))
    return data.ssl_conn


def shake_hands(server: SSL.Connection, context: ssl.SSLContext, name: str = NAME) -> ssl.SSLObject:
    """A client's handshake in memory. Raises what the client raises."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    for _ in range(6):
        done = attempt(client.do_handshake, ssl.SSLWantReadError)
        if hello := outgoing.read():
            server.bio_write(hello)
        attempt(server.do_handshake, SSL.WantReadError)
        attempt(lambda: incoming.write(server.bio_read(65536)), SSL.WantReadError)
        if done:
            return client
    raise AssertionError("the handshake does not end")


def attempt(step: Callable[[], object], more: type[Exception]) -> bool:
    try:
        step()
    except more:
        return False
    return True


def client_context(ca: CertificateAuthority, *protocols: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca.certificate.public_bytes(Encoding.DER))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def shown(client: ssl.SSLObject) -> list[str]:
    """The names in the certificate that the client was shown."""
    der = client.getpeercert(binary_form=True)
    assert der
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(name.value) for name in names.value]


@pytest.mark.parametrize(
    "sni",
    [
        pytest.param(NAME, id="SNI is the target"),
        pytest.param("evil.example", id="SNI is another name"),
        pytest.param(None, id="no SNI"),
    ],
)
def test_the_certificate_names_the_target_alone(ca: CertificateAuthority, addon: TlsCertificates, sni: str) -> None:
    server = ask(starting(sni=sni), addon)
    assert server
    assert shown(shake_hands(server, client_context(ca))) == [NAME]


@pytest.mark.parametrize("engines_own", [TlsConfig, UpstreamTls])
def test_the_engines_own_certificates_are_never_shown(
    ca: CertificateAuthority, addon: TlsCertificates, engines_own: type[TlsConfig]
) -> None:
    server = ask(starting(), addon, engines_own())
    assert server
    assert shown(shake_hands(server, client_context(ca))) == [NAME]


def broken(_: str) -> Host:
    raise RuntimeError("something unforeseen")


REFUSED = [
    pytest.param(lambda leaves: TlsCertificates(None, lambda _: Host(NAME)), "tcp", id="interception is off"),
    pytest.param(
        lambda leaves: TlsCertificates(leaves, lambda _: None), "tcp", id="nothing was decided for this client"
    ),
    pytest.param(lambda leaves: TlsCertificates(leaves, broken), "tcp", id="something raises"),
    pytest.param(
        lambda leaves: TlsCertificates(leaves, lambda _: Host("\N{SNOWMAN}")), "tcp", id="no certificate can be made"
    ),
    pytest.param(lambda leaves: TlsCertificates(leaves, lambda _: Host(NAME)), "udp", id="TLS over datagrams"),
]


class EnginesOwn:
    """Stands where the engine's own TLS addon stands, and serves whatever is left to it."""

    name = "tlsconfig"

    def tls_start_client(self, data: TlsData) -> None:
        if data.ssl_conn is None:
            data.ssl_conn = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))


def test_what_is_left_to_the_engine_is_served() -> None:
    assert ask(starting(), EnginesOwn()) is not None


@pytest.mark.parametrize(("make", "transport"), REFUSED)
def test_a_tunnel_without_a_certificate_is_closed(
    ca: CertificateAuthority, make: Callable[[LeafCertificates], TlsCertificates], transport: str
) -> None:
    assert ask(starting(transport=transport), make(LeafCertificates(ca)), EnginesOwn()) is None


def test_a_connection_that_somebody_else_prepared_is_not_used(addon: TlsCertificates, ca: CertificateAuthority) -> None:
    data = starting()
    data.ssl_conn = theirs = SSL.Connection(SSL.Context(SSL.TLS_SERVER_METHOD))
    assert ask(data, addon) is not theirs


@pytest.mark.parametrize(
    ("offered", "origin", "http2", "chosen"),
    [
        pytest.param(["h2", "http/1.1"], None, True, "h2", id="the client's first choice"),
        pytest.param(["http/1.1", "h2"], None, True, "h2", id="HTTP/2 first, whatever the client's order"),
        pytest.param(["h2", "http/1.1"], b"http/1.1", True, "http/1.1", id="the origin's choice where it is known"),
        pytest.param(["h2", "http/1.1"], b"", True, None, id="an origin without the extension"),
        pytest.param(["http/1.1"], b"h2", True, "http/1.1", id="an origin's choice that the client did not offer"),
        pytest.param(["h2", "http/1.1"], None, False, "http/1.1", id="HTTP/2 switched off"),
        pytest.param(["h2", "http/1.1"], b"h2", False, "http/1.1", id="switched off for the origin's choice too"),
        pytest.param(["h2"], None, False, None, id="nothing in common"),
        pytest.param(["h3", "ftp", "http/1.1"], b"ftp", True, "http/1.1", id="only protocols that the engine speaks"),
        pytest.param([], None, True, None, id="a client without the extension"),
    ],
)
def test_the_protocol(
    ca: CertificateAuthority, offered: list[str], origin: bytes | None, http2: bool, chosen: str | None
) -> None:
    addon = TlsCertificates(LeafCertificates(ca), lambda _: parse_host(NAME))
    data = starting(origin=origin)
    with taddons.context(addon) as engine:
        engine.configure(addon, http2=http2)
        addon.tls_start_client(data)
    assert data.ssl_conn
    client = shake_hands(data.ssl_conn, client_context(ca, *offered))
    assert client.selected_alpn_protocol() == chosen


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(ca: CertificateAuthority, addon: TlsCertificates, version: ssl.TLSVersion) -> None:
    context = client_context(ca)
    context.minimum_version = context.maximum_version = version
    server = ask(starting(), addon)
    assert server
    assert shake_hands(server, context).version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_older_versions_are_not_spoken(ca: CertificateAuthority, addon: TlsCertificates) -> None:
    context = client_context(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    server = ask(starting(), addon)
    assert server
    with pytest.raises(SSL.Error, match="unsupported protocol"):
        shake_hands(server, context)


def test_a_context_is_made_once_per_host_and_again_when_the_leaf_is_new(
    ca: CertificateAuthority, addon: TlsCertificates
) -> None:
    first, second = ask(starting(), addon), ask(starting(), addon)
    assert first
    assert second
    assert first.get_context() is second.get_context()
    addon.use(LeafCertificates(ca))
    third = ask(starting(), addon)
    assert third
    assert third.get_context() is not first.get_context()
    addon.use(None)
    assert ask(starting(), addon) is None


def test_contexts_are_bounded(ca: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_certificates, "CONTEXT_LIMIT", 3)
    wanted = [NAME]
    addon = TlsCertificates(LeafCertificates(ca), lambda _: parse_host(wanted[0]))
    kept = ask(starting(), addon)
    assert kept
    for number in range(10):
        wanted[0] = f"h{number}.example"
        ask(starting(), addon)
        wanted[0] = NAME
        again = ask(starting(), addon)
        assert again
        assert again.get_context() is kept.get_context(), "what is in use stays"
    assert len(addon._contexts) == 3


def test_the_target_is_what_was_decided_for_the_client() -> None:
    target = Endpoint(parse_host(NAME), 443)
    request = NetworkPolicyRequest(NetworkProtocol.HTTPS_CONNECT, target)
    open_session("decided", Session(None, "127.0.0.1:1", tunnel=Allowed("id", request, (), ())))
    open_session("undecided", Session(None, "127.0.0.1:2"))
    try:
        assert [tunnel_host(client) for client in ("decided", "undecided", "unknown")] == [target.host, None, None]
    finally:
        close_session("decided")
        close_session("undecided")


def test_our_engine_writes_no_authority_of_its_own(tmp_path: Path) -> None:
    with taddons.context(UpstreamTls(), options=options.Options(confdir=str(tmp_path))) as engine:
        upstream = engine.master.addons.get("tlsconfig")
        engine.configure(upstream, confdir=str(tmp_path / "other"), key_size=3072)
        upstream.running()
    assert list(tmp_path.iterdir()) == []


def test_our_engine_serves_no_certificate_of_its_own() -> None:
    assert ask(starting(), UpstreamTls()) is None
