"""One line for the person whose tool does not trust the CA: what to set for this very tool (spec B6.3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy import connection, tls

from codex_network_proxy.addons.client_trust import ClientTrust, fix_for, reason_of
from codex_network_proxy.addons.interception import Interception, TlsFiles

from .flow_kit import Bench, bench

FILES = Interception(cast(Any, None), Path("/home/ca.pem"), Path("/home/bundle.pem"))


@pytest.mark.parametrize(
    ("agent", "fix"),
    [
        pytest.param("curl/8.5", "CURL_CA_BUNDLE=/home/bundle.pem (or curl --cacert /home/bundle.pem)", id="curl"),
        pytest.param("git/2.43", "GIT_SSL_CAINFO=/home/bundle.pem", id="git"),
        pytest.param("python-requests/2", "REQUESTS_CA_BUNDLE=/home/bundle.pem", id="requests"),
        pytest.param("python-httpx/0.27", "SSL_CERT_FILE=/home/bundle.pem", id="httpx"),
        pytest.param("Python-urllib/3", "SSL_CERT_FILE=/home/bundle.pem", id="urllib"),
        pytest.param("pip/24", "PIP_CERT=/home/bundle.pem", id="pip"),
        pytest.param("node", "NODE_EXTRA_CA_CERTS=/home/ca.pem", id="node"),
        pytest.param("npm/10", "NPM_CONFIG_CAFILE=/home/bundle.pem", id="npm"),
        pytest.param("cargo 1.80", "CARGO_HTTP_CAINFO=/home/bundle.pem", id="cargo"),
        pytest.param("Go-http-client/1.1", "SSL_CERT_FILE=/home/bundle.pem", id="Go"),
        pytest.param(
            "evil\x1b[31m",
            "SSL_CERT_FILE=/home/bundle.pem (Node: NODE_EXTRA_CA_CERTS=/home/ca.pem, git: "
            "GIT_SSL_CAINFO=/home/bundle.pem)",
            id="anything else",
        ),
        pytest.param(
            None,
            "SSL_CERT_FILE=/home/bundle.pem (Node: NODE_EXTRA_CA_CERTS=/home/ca.pem, git: "
            "GIT_SSL_CAINFO=/home/bundle.pem)",
            id="nobody",
        ),
    ],
)
def test_the_fix_for_each_tool(agent: str | None, fix: str) -> None:
    assert fix_for(agent, FILES) == fix


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("The client does not trust the proxy's certificate for a (tlsv1 alert unknown ca)", "unknown ca"),
        ("The client does not trust the proxy's certificate for a (ssl/tls alert bad certificate)", "bad certificate"),
        ("may not trust (OpenSSL Error([('SSL routines', '', 'ssl/tls alert certificate unknown')]))",
         "certificate unknown"),
        ("The client disconnected during the handshake. If this happens consistently for a.test", "closed early"),
        ("connection closed early", "closed early"),
        ("OpenSSL Error([('SSL routines', '', 'no shared cipher')])", "no shared cipher"),
        ("Client and mitmproxy cannot agree: unsupported protocol", "protocol version"),
        ("something <b>odd</b>", "handshake failed"),
        (None, "handshake failed"),
    ],
)  # fmt: skip
def test_the_reason_is_ours(error: str | None, reason: str) -> None:
    assert reason_of(error) == reason


def failed(here: Bench) -> tls.TlsData:
    here.client.error = "tlsv1 alert unknown ca"
    return tls.TlsData(here.client, cast(Any, None))


LINE = (
    "TLS with the client failed (client=127.0.0.1:5, host=hooked.test, reason={}): "
    "if it does not trust the proxy's CA, set GIT_SSL_CAINFO=/home/bundle.pem"
)


def inside(here: Bench) -> ClientTrust:
    here.enter()
    here.session.user_agent = "git/2"
    here.tenant.tls = TlsFiles(None, FILES)
    return ClientTrust()


def test_a_failed_handshake(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        addon = inside(here)
        addon.tls_failed_client(failed(here))
        addon.client_disconnected(here.client)
    assert caplog.messages == [LINE.format("unknown ca")], "once"


def test_a_client_that_leaves_after_the_handshake_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        inside(here).client_disconnected(here.client)
    assert caplog.messages == [LINE.format("closed without a request")]


def test_a_client_that_has_asked_for_something_trusts_us(caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        addon = inside(here)
        addon.requestheaders(here.flow("https://hooked.test/"))
        addon.client_disconnected(here.client)
    assert not caplog.messages


@pytest.mark.parametrize("missing", ["tunnel", "interception", "session", "TLS"])
def test_nothing_is_said_where_nothing_was_intercepted(missing: str, caplog: pytest.LogCaptureFixture) -> None:
    with bench() as here:
        addon = inside(here)
        if missing == "tunnel":
            here.session.tunnel = None
        elif missing == "interception":
            here.tenant.tls = TlsFiles(None, None)
        elif missing == "TLS":
            here.client.timestamp_tls_setup = None
        flow = here.flow()
        if missing != "session":
            addon.client_disconnected(here.client)
    if missing == "session":
        addon.client_disconnected(connection.Client(peername=("a", 1), sockname=("b", 2)))
        addon.requestheaders(flow)
    assert not caplog.messages
