"""What our engine's options are, and what a user may ask of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from mitmproxy.addons import proxyserver
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.onboarding import Onboarding
from mitmproxy.addons.tlsconfig import TlsConfig
from mitmproxy.net import tls as net_tls
from mitmproxy.test import taddons

from codex_network_proxy.addons.engine_options import (
    OURS,
    asked_for_listener,
    prepare_options,
    write_no_session_keys,
)


@pytest.fixture
def engine() -> Iterator[taddons.context]:
    with taddons.context() as made:
        made.master.addons.add(proxyserver.Proxyserver(), NextLayer(), TlsConfig(), Onboarding())
        yield made


def test_ours_are_set(engine: taddons.context) -> None:
    assert prepare_options(engine.master) is None
    assert {name: getattr(engine.options, name) for name in OURS} == OURS


@pytest.mark.parametrize(
    ("asked", "port"),
    [
        pytest.param({}, 8083, id="is ours when nobody asks"),
        pytest.param({"web_port": 9001}, 9001, id="is the one asked for"),
        pytest.param({"web_port": 0}, 8083, id="is never one that is not known beforehand"),
    ],
)
def test_the_port_of_mitmweb(asked: dict[str, object], port: int, engine: taddons.context) -> None:
    engine.options.add_option("web_port", int, 8081, "")
    engine.options.update(**asked)
    prepare_options(engine.master)
    assert engine.options.web_port == port


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"ssl_insecure": True}, "ssl_insecure must stay False"),
        ({"ignore_hosts": ["."]}, "ignore_hosts must stay []"),
        ({"mode": ["socks5"]}, "mode 'socks5' cannot be policed"),
    ],
)
def test_what_cannot_be_policed_is_a_problem(options: dict[str, object], problem: str, engine: taddons.context) -> None:
    engine.options.update(**options)
    assert (prepare_options(engine.master) or "").startswith(problem)


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, False),
        ({"listen_port": 9000}, True),
        ({"listen_host": "127.0.0.1"}, True),
        ({"mode": ["regular@9000"]}, True),
        ({"mode": ["regular"]}, False),
    ],
)
def test_whether_the_user_asked_for_a_listener(
    options: dict[str, object], asked: bool, engine: taddons.context
) -> None:
    engine.options.update(**options)
    assert asked_for_listener(engine.master) is asked


def test_no_session_keys_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net_tls, "log_master_secret", object())
    write_no_session_keys()
    assert net_tls.log_master_secret is None
