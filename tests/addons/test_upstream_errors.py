"""What a client reads of a failure: useful, and no byte that somebody else wrote."""

from __future__ import annotations

import pytest

from codex_network_proxy.addons.upstream_errors import client_text
from codex_network_proxy.socks.dialler import DialFailure

NO_HTTP = "upstream failure: the origin sent no valid HTTP response"
HANDSHAKE = "upstream failure: the TLS handshake with the origin failed"
CLOSED = "upstream failure: the origin closed the connection"
UNTRUSTED = "upstream failure: the origin's certificate is not trusted"


@pytest.mark.parametrize(
    ("message", "text"),
    [
        pytest.param("could not resolve a.test", "upstream failure: could not resolve a.test", id="no address"),
        pytest.param("blocked by network policy", "upstream failure: blocked by network policy", id="no grant"),
        pytest.param("connection cancelled", "upstream failure: connection cancelled", id="nobody waits any more"),
        pytest.param("the origin's response head is too large",
                     "upstream failure: the origin's response head is too large", id="an endless head"),
        pytest.param("the origin answered with status 099",
                     "upstream failure: the origin answered with status 099", id="an odd status"),
        pytest.param("Certificate verify failed: hostname mismatch",
                     f"{UNTRUSTED} (hostname mismatch)", id="another name"),
        pytest.param("Certificate verify failed: IP address mismatch",
                     f"{UNTRUSTED} (ip address mismatch)", id="another address"),
        pytest.param("Certificate verify failed: certificate has expired",
                     f"{UNTRUSTED} (certificate has expired)", id="expired"),
        pytest.param("Certificate verify failed: unable to get local issuer certificate",
                     f"{UNTRUSTED} (unable to get local issuer certificate)", id="an unknown issuer"),
        pytest.param("Certificate verify failed: self-signed certificate in certificate chain",
                     f"{UNTRUSTED} (self-signed certificate in certificate chain)", id="self-signed"),
        pytest.param("Certificate verify failed: <script>", f"{UNTRUSTED} (verification failed)", id="odd words"),
        pytest.param("Certificate verify failed", f"{UNTRUSTED} (verification failed)", id="no words"),
        pytest.param("The remote server does not speak TLS.", HANDSHAKE, id="no TLS"),
        pytest.param("OpenSSL Error([('SSL routines', '', 'tlsv1 alert internal error')])", HANDSHAKE, id="an alert"),
        pytest.param("server closed connection", CLOSED, id="closed"),
        pytest.param("connection closed", CLOSED, id="closed in the handshake"),
        pytest.param("unexpected server response: b'<b>evil</b>'", NO_HTTP, id="what an origin wrote"),
        pytest.param("Cannot parse HTTP response: b'HTTP/9 evil'", NO_HTTP, id="what the engine could not read"),
        pytest.param("", NO_HTTP, id="nothing"),
    ],
)  # fmt: skip
def test_failures_of_an_origin(message: str, text: str) -> None:
    assert client_text(502, message) == text


@pytest.mark.parametrize("failure", list(DialFailure))
def test_a_failed_dial_says_how(failure: DialFailure) -> None:
    assert client_text(502, str(failure)) == f"upstream failure: {failure.value}"


@pytest.mark.parametrize(
    ("status", "text"), [(400, "bad request"), (413, "request body too large"), (500, "bad request")]
)
def test_failures_of_a_client_quote_nothing(status: int, text: str) -> None:
    assert client_text(status, "Bad HTTP request line: b'GET /secret'") == text
