from __future__ import annotations

import asyncio
import gc
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
from codex_network_proxy.addons.interception import Interception, TlsFiles
from codex_network_proxy.addons.leaf_certificates import LeafCertificates
from codex_network_proxy.addons.sessions import close_session
from codex_network_proxy.addons.tls_certificates import Subject, TlsCertificates, subject_of
from codex_network_proxy.addons.upstream_tls import UpstreamTls
from codex_network_proxy.policy.hosts import Host, parse_host

from .flow_kit import bench

NAME = "api.example.com"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return load_or_create(tmp_path_factory.mktemp("home"))


@pytest.fixture
def addon(ca: CertificateAuthority) -> TlsCertificates:
    return serving(LeafCertificates(ca))


def serving(leaves: LeafCertificates, host: str = NAME) -> TlsCertificates:
    """Every client has a tunnel to this host."""
    return TlsCertificates(lambda _: (Host(host), leaves))


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


def broken(_: str) -> Subject:
    raise RuntimeError("something unforeseen")


REFUSED = [
    pytest.param(
        lambda leaves: TlsCertificates(lambda _: None), "tcp", id="nothing was decided, or interception is off"
    ),
    pytest.param(lambda leaves: TlsCertificates(broken), "tcp", id="something raises"),
    pytest.param(lambda leaves: serving(leaves, "\N{SNOWMAN}"), "tcp", id="no certificate can be made"),
    pytest.param(serving, "udp", id="TLS over datagrams"),
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
    addon = serving(LeafCertificates(ca))
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


def test_each_client_is_shown_a_certificate_of_its_own_proxy(ca: CertificateAuthority, tmp_path: Path) -> None:
    """Also for the same host, and in turns: two proxies in one process share the engine and nothing else."""
    other = load_or_create(tmp_path)
    leaves = {True: LeafCertificates(ca), False: LeafCertificates(other)}
    ours = [True]
    addon = TlsCertificates(lambda _: (Host(NAME), leaves[ours[0]]))
    for ours[0] in (True, False, True, False):
        server = ask(starting(), addon)
        assert server
        shake_hands(server, client_context(ca if ours[0] else other))
        server = ask(starting(), addon)
        assert server
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(server, client_context(other if ours[0] else ca))


def test_contexts_go_with_the_authority_they_were_made_under(ca: CertificateAuthority) -> None:
    leaves = [LeafCertificates(ca)]
    addon = TlsCertificates(lambda _: (Host(NAME), leaves[0]))
    assert ask(starting(), addon)
    leaves[0] = LeafCertificates(ca)
    assert ask(starting(), addon)
    gc.collect()
    assert len(addon._contexts) == 1


def test_contexts_are_bounded(ca: CertificateAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_certificates, "CONTEXT_LIMIT", 3)
    wanted, leaves = [NAME], LeafCertificates(ca)
    addon = TlsCertificates(lambda _: (parse_host(wanted[0]), leaves))
    kept = ask(starting(), addon)
    assert kept
    for number in range(10):
        wanted[0] = f"h{number}.example"
        ask(starting(), addon)
        wanted[0] = NAME
        again = ask(starting(), addon)
        assert again
        assert again.get_context() is kept.get_context(), "what is in use stays"
    assert [len(contexts) for contexts in addon._contexts.values()] == [3]


@pytest.mark.parametrize("missing", [None, "tunnel", "interception", "tenant", "session"])
def test_the_subject_is_what_was_decided_for_the_client(ca: CertificateAuthority, missing: str | None) -> None:
    leaves = LeafCertificates(ca)
    with bench() as here:
        target = here.enter("hooked.test:443").request.target
        here.tenant.tls = TlsFiles(None, Interception(leaves, Path("ca.pem"), Path("bundle.pem")))
        match missing:
            case "tunnel":
                here.session.tunnel = None
            case "interception":
                here.tenant.tls = TlsFiles(None, None)
            case "tenant":
                here.session.tenant = None
            case "session":
                close_session(here.client.id)
        assert subject_of(here.client.id) == (None if missing else (target.host, leaves))
