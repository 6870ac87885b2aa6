"""The last word: what nothing allowed is not sent, not dialled, and no option opens a way around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mitmproxy import connection, exceptions, http
from mitmproxy.addons import proxyserver
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.onboarding import Onboarding
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.proxy import server_hooks
from mitmproxy.test import taddons

from codex_network_proxy.addons.allowlist import Allowlist
from codex_network_proxy.addons.approval import Approval
from codex_network_proxy.addons.connection import REFUSED
from codex_network_proxy.addons.guard import LOCKED_OPTIONS, Guard, _mode_problem, forbidden_option

from .flow_kit import Bench, answered, bench, run


def refused(flow: http.HTTPFlow) -> bool:
    return flow.response is not None and flow.response.headers.get("x-proxy-error") == "blocked-by-policy"


def approved(here: Bench) -> http.HTTPFlow:
    flow = run(Allowlist().requestheaders, here.flow("http://allowed.test:81/"))
    Approval().requestheaders(flow)
    return flow


def test_an_approved_request_passes() -> None:
    with bench() as here:
        flow = approved(here)
        Guard().requestheaders(flow)
        assert flow.response is None


@pytest.mark.parametrize("fault", ["no decision", "not approved", "changed", "no session", "a replay"])
def test_any_other_request_does_not(fault: str) -> None:
    with bench() as here:
        flow = here.flow()
        if fault == "not approved":
            run(Allowlist().requestheaders, flow)
        elif fault == "changed":
            flow = approved(here)
            flow.request.host = "evil.test"
        elif fault == "a replay":
            flow = approved(here)
            flow.is_replay = "request"
        if fault != "no session":
            Guard().requestheaders(flow)
    if fault == "no session":
        Guard().requestheaders(flow)
    assert refused(flow)


def test_an_answer_is_left_as_it_is() -> None:
    with bench() as here:
        flow = run(Allowlist().requestheaders, here.flow("http://denied.test/"))
        Guard().requestheaders(flow)
        assert not refused(flow)
        assert answered(flow)[0] == 403


def test_tunnels() -> None:
    with bench() as here:
        undecided = here.flow("https://allowed.test/", method="CONNECT")
        Guard().http_connect(undecided)
        assert refused(undecided)
        here.enter("allowed.test:443")
        decided = here.flow("https://allowed.test/", method="CONNECT")
        Guard().http_connect(decided)
        assert decided.response is None


@pytest.mark.parametrize(
    ("address", "dialled"),
    [
        pytest.param(("allowed.test", 81), True, id="what was granted"),
        pytest.param(("allowed.test", 82), False, id="another port"),
        pytest.param(("evil.test", 81), False, id="another host"),
        pytest.param(("127.0.0.1", 81), False, id="its address"),
        pytest.param(None, False, id="no address"),
    ],
)
def test_only_what_was_granted_is_dialled(address: Any, dialled: bool) -> None:
    with bench() as here:
        approved(here)
        server = connection.Server(address=address)
        Guard().server_connect(server_hooks.ServerConnectionHookData(server, here.client))
        assert server.error == (None if dialled else REFUSED)


def test_a_stranger_dials_nothing() -> None:
    client = connection.Client(peername=("a", 1), sockname=("b", 2))
    server = connection.Server(address=("allowed.test", 81))
    Guard().server_connect(server_hooks.ServerConnectionHookData(server, client))
    assert server.error == REFUSED


@pytest.fixture
def engine() -> Iterator[taddons.context]:
    """An engine with the addons that bring the options; the guard comes last."""
    with taddons.context() as made:
        made.master.addons.add(proxyserver.Proxyserver(), NextLayer(), TlsConfig(), Onboarding())
        made.options.update(**LOCKED_OPTIONS)
        made.master.addons.add(Guard())
        yield made


OTHERS: dict[str, Any] = {
    "ssl_insecure": True,
    "proxy_debug": True,
    "validate_inbound_headers": False,
    "stream_large_bodies": "1m",
    "onboarding": True,
    "connection_strategy": "eager",
    "rawtcp": False,
    "ignore_hosts": ["."],
    "allow_hosts": ["evil"],
    "tcp_hosts": ["."],
    "udp_hosts": ["."],
}


def test_the_rows_are_complete() -> None:
    assert OTHERS.keys() == LOCKED_OPTIONS.keys()


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_a_locked_option_stays_as_it_is(name: str, engine: taddons.context) -> None:
    with pytest.raises(exceptions.OptionsError, match=f"^{name} must stay .*around the network policy$"):
        engine.options.update(**{name: OTHERS[name]})
    assert getattr(engine.options, name) == LOCKED_OPTIONS[name], "and the old value is back"


@pytest.mark.parametrize("name", sorted(LOCKED_OPTIONS))
def test_a_locked_option_may_be_set_to_what_it_is(name: str, engine: taddons.context) -> None:
    engine.options.update(**{name: LOCKED_OPTIONS[name]})


@pytest.mark.parametrize("value", [[], (), [""][:0]])
def test_an_empty_sequence_is_empty_whatever_its_type(value: Any, engine: taddons.context) -> None:
    engine.options.update(ignore_hosts=value)
    assert forbidden_option(["ignore_hosts"]) is None


@pytest.mark.parametrize(
    ("modes", "allowed"),
    [
        (["regular"], True),
        (["regular@127.0.0.1:9000"], True),
        (["regular@9000", "regular@9001"], True),
        ([], True),
        (["socks5"], False),
        (["upstream:http://127.0.0.1:1"], False),
        (["reverse:https://evil.test"], False),
        (["transparent"], False),
        (["dns"], False),
        (["wireguard"], False),
        (["local"], False),
        (["regular", "socks5@9001"], False),
        (["no such mode"], False),
    ],
)
def test_modes(modes: list[str], allowed: bool, engine: taddons.context) -> None:
    before = engine.options.mode
    if allowed:
        engine.options.update(mode=modes, server=False)
        assert engine.options.mode == modes
        return
    with pytest.raises(exceptions.OptionsError, match=r"mode|server spec"):
        engine.options.update(mode=modes, server=False)
    assert engine.options.mode == before


def test_a_mode_that_cannot_be_read_cannot_be_policed() -> None:
    assert (_mode_problem("no such mode") or "").startswith("mode 'no such mode' cannot be policed")
    assert _mode_problem("regular@9000") is None


@pytest.mark.parametrize("name", ["http2", "client_certs", "tls_version_server_min", "upstream_cert", "server"])
def test_other_options_are_the_users(name: str, engine: taddons.context) -> None:
    assert forbidden_option([name]) is None


def test_an_option_that_this_engine_does_not_have() -> None:
    with taddons.context(loadcore=False):
        assert forbidden_option(LOCKED_OPTIONS) is None
