"""TLS towards origins: whose roots count, which name is asked for and verified, and what is never made."""

from __future__ import annotations

import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from mitmproxy import options
from mitmproxy.connection import Client, Server
from mitmproxy.proxy.context import Context
from mitmproxy.test import taddons
from mitmproxy.tls import TlsData
from OpenSSL import SSL

from codex_network_proxy.addons import upstream_tls
from codex_network_proxy.addons.interception import TlsFiles
from codex_network_proxy.addons.sessions import close_session
from codex_network_proxy.addons.upstream_tls import UpstreamTls
from tests.kit.tls import TestAuthority

from .flow_kit import Bench, bench

NAME = "api.example.com"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("issuer"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("stranger"))


def starting(
    client: Client, *, sni: str | None = NAME, address: str = "192.0.2.1", offers: tuple[bytes, ...] = ()
) -> TlsData:
    """What the engine asks when TLS towards an origin is about to start."""
    context = Context(client, options.Options())
    context.server = Server(address=(address, 443), sni=sni)
    client.alpn_offers = offers
    return TlsData(context.server, context)


def start(addon: UpstreamTls, here: Bench, data: TlsData, roots: Path | None, *, http2: bool = True) -> None:
    here.tenant.tls = TlsFiles(roots, None)
    with taddons.context(addon, options=options.Options(http2=http2)):
        addon.tls_start_server(data)


def shake_hands(ours: SSL.Connection, server: ssl.SSLContext) -> ssl.SSLObject:
    """A whole handshake in memory. Raises what the proxy's side raises."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(incoming, outgoing, server_side=True)
    for _ in range(4):
        with suppress(SSL.WantReadError):
            ours.do_handshake()
        with suppress(SSL.WantReadError):
            incoming.write(ours.bio_read(1 << 16))
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        if sent := outgoing.read():
            ours.bio_write(sent)
    return theirs


def test_an_origin_is_asked_for_and_verified_under_the_name_that_was_decided_on(issuer: TestAuthority) -> None:
    with bench() as here:
        data = starting(here.client)
        start(UpstreamTls(), here, data, issuer.bundle)
    assert data.ssl_conn
    origin = shake_hands(data.ssl_conn, issuer.server_context(NAME))
    assert origin.version() == "TLSv1.3"
    assert vars(origin)["asked_name"] == NAME


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", "fe80::1%lo"])
def test_an_address_is_verified_and_never_sent_as_a_name(name: str, issuer: TestAuthority) -> None:
    with bench() as here:
        data = starting(here.client, sni=name)
        start(UpstreamTls(), here, data, issuer.bundle)
    assert data.ssl_conn
    origin = shake_hands(data.ssl_conn, issuer.server_context(name.partition("%")[0]))
    assert origin.version() == "TLSv1.3"
    assert vars(origin)["asked_name"] is None


@pytest.mark.parametrize(
    ("sni", "served"),
    [
        pytest.param(NAME, "other.example.com", id="another name"),
        pytest.param(NAME, "192.0.2.1", id="an address instead of a name"),
        pytest.param("127.0.0.1", "127.0.0.2", id="another address"),
        pytest.param("127.0.0.1", NAME, id="a name instead of an address"),
    ],
)
def test_a_certificate_for_something_else_ends_the_handshake(sni: str, served: str, issuer: TestAuthority) -> None:
    with bench() as here:
        data = starting(here.client, sni=sni)
        start(UpstreamTls(), here, data, issuer.bundle)
    assert data.ssl_conn
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        shake_hands(data.ssl_conn, issuer.server_context(served))


def test_the_roots_are_those_of_the_clients_own_proxy(issuer: TestAuthority, stranger: TestAuthority) -> None:
    """Two proxies share the engine: what one trusts must not count for the other, in whatever order they ask."""
    addon = UpstreamTls()
    for roots, trusted in ((issuer, True), (stranger, False), (issuer, True), (stranger, False)):
        with bench() as here:
            data = starting(here.client)
            start(addon, here, data, roots.bundle)
        assert data.ssl_conn
        if trusted:
            assert shake_hands(data.ssl_conn, issuer.server_context(NAME)).version()
        else:
            with pytest.raises(SSL.Error, match="certificate verify failed"):
                shake_hands(data.ssl_conn, issuer.server_context(NAME))


def test_roots_that_were_replaced_count_at_once(issuer: TestAuthority, stranger: TestAuthority, tmp_path: Path) -> None:
    addon, roots = UpstreamTls(), tmp_path / "roots.pem"
    with bench() as here:
        for content in (stranger, issuer):
            draft = tmp_path / "draft.pem"
            draft.write_bytes(content.bundle.read_bytes())
            draft.replace(roots)
            start(addon, here, starting(here.client), roots)
        start(addon, here, data := starting(here.client), roots)
    assert data.ssl_conn
    assert shake_hands(data.ssl_conn, issuer.server_context(NAME)).version()


def test_without_roots_of_its_own_a_proxy_trusts_the_ones_that_come_with_python(issuer: TestAuthority) -> None:
    with bench() as here:
        data = starting(here.client)
        start(UpstreamTls(), here, data, None)
    assert data.ssl_conn
    with pytest.raises(SSL.Error, match="certificate verify failed"):
        shake_hands(data.ssl_conn, issuer.server_context(NAME))


def test_contexts_are_made_once_and_bounded(
    issuer: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_tls, "CONTEXT_LIMIT", 2)
    addon, seen = UpstreamTls(), set()
    with bench() as here:
        for number in (1, 2, 3, 1):
            roots = tmp_path / f"{number}.pem"
            roots.write_bytes(issuer.bundle.read_bytes())
            for _ in range(2):
                start(addon, here, data := starting(here.client), roots)
                assert data.ssl_conn
                seen.add(data.ssl_conn.get_context())
    assert len(seen) == 4
    assert len(addon._contexts) == 2


@pytest.mark.parametrize("missing", ["session", "tenant", "roots"])
def test_without_roots_that_count_nothing_is_started(missing: str, tmp_path: Path) -> None:
    with bench() as here:
        data = starting(here.client)
        if missing == "session":
            close_session(here.client.id)
        elif missing == "tenant":
            here.session.tenant = None
        if missing == "roots":
            with pytest.raises(FileNotFoundError):
                start(UpstreamTls(), here, data, tmp_path / "gone.pem")
        else:
            start(UpstreamTls(), here, data, None)
    assert data.ssl_conn is None, "which the engine takes for a failed upstream"


@pytest.mark.parametrize(
    ("offers", "http2", "chosen"),
    [
        pytest.param((b"h2", b"http/1.1"), True, "h2", id="the client's own"),
        pytest.param((b"h2", b"http/1.1"), False, "http/1.1", id="without HTTP/2 when it is off"),
        pytest.param((), True, None, id="none when the client made none"),
    ],
)
def test_the_offers(offers: tuple[bytes, ...], http2: bool, chosen: str | None, issuer: TestAuthority) -> None:
    with bench() as here:
        data = starting(here.client, offers=offers)
        start(UpstreamTls(), here, data, issuer.bundle, http2=http2)
    assert data.ssl_conn
    origin = shake_hands(data.ssl_conn, issuer.server_context(NAME, alpn=("h2", "http/1.1")))
    assert origin.selected_alpn_protocol() == chosen


def test_a_name_is_found_where_none_was_decided_on(issuer: TestAuthority) -> None:
    """A request in absolute form has no tunnel; what is dialled for it is what it names."""
    with bench() as here:
        data = starting(here.client, sni=None, address=NAME)
        start(UpstreamTls(), here, data, issuer.bundle)
    assert data.ssl_conn
    assert shake_hands(data.ssl_conn, issuer.server_context(NAME)).version()


def test_session_keys_are_written_nowhere(
    issuer: TestAuthority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's own contexts follow the environment in this, whatever process it runs in."""
    monkeypatch.setattr("mitmproxy.net.tls.log_master_secret", lambda *_: (tmp_path / "keys").write_text("canary"))
    with bench() as here:
        data = starting(here.client)
        start(UpstreamTls(), here, data, issuer.bundle)
    assert data.ssl_conn
    assert shake_hands(data.ssl_conn, issuer.server_context(NAME)).version()
    assert list(tmp_path.iterdir()) == []


def test_no_authority_of_its_own_is_written(tmp_path: Path) -> None:
    with taddons.context(UpstreamTls(), options=options.Options(confdir=str(tmp_path))) as engine:
        upstream = engine.master.addons.get("tlsconfig")
        engine.configure(upstream, confdir=str(tmp_path / "other"), key_size=3072)
        upstream.running()
    assert list(tmp_path.iterdir()) == []


def test_no_certificate_of_its_own_is_served() -> None:
    with bench() as here:
        data = TlsData(here.client, Context(here.client, options.Options()))
    with taddons.context(UpstreamTls()) as engine:
        engine.master.addons.get("tlsconfig").tls_start_client(data)
    assert data.ssl_conn is None
