"""What holds for any text that somebody calls a host (spec A2.1)."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codex_network_proxy.policy.errors import InvalidHost
from codex_network_proxy.policy.hosts import Endpoint, Host, parse_endpoint, parse_host

HOSTILE = st.one_of(
    st.text(max_size=30),
    st.text(alphabet="aAxn0179.-_:%[]@/\\ \x00\n\u00fc\u3002\uff11\u200b\u05d0", max_size=30),
    st.from_regex(r"(xn--)?[a-z0-9-]{1,12}(\.[a-z0-9-]{1,12}){0,3}\.?", fullmatch=True),
)


def outcome(text: str) -> Host | str:
    try:
        return parse_host(text)
    except InvalidHost as refusal:
        return str(refusal)


@settings(deadline=None)
@given(HOSTILE)
def test_parsing_again_changes_nothing(text: str) -> None:
    host = outcome(text)
    if isinstance(host, Host):
        assert parse_host(host.text) == host
        assert parse_host(host.bracketed) == host
        assert parse_endpoint(str(Endpoint(host, 443))) == Endpoint(host, 443)


@settings(deadline=None)
@given(HOSTILE)
def test_a_refusal_is_short_and_safe_to_show(text: str) -> None:
    refusal = outcome(text)
    if isinstance(refusal, str):
        assert refusal.isascii()
        assert refusal.isprintable()
        assert len(refusal) < 100


@settings(deadline=None)
@given(HOSTILE)
def test_a_canonical_host_holds_nothing_but_harmless_characters(text: str) -> None:
    host = outcome(text)
    if isinstance(host, Host):
        harmless = set("abcdefghijklmnopqrstuvwxyz0123456789.-_")
        assert set(host.text.partition("%")[0]) <= harmless | ({":"} if host.is_literal else set())
        assert len(host.text) <= 253


@settings(deadline=None)
@given(
    st.from_regex(r"(0x[0-9a-f]{1,9}|0[0-7]{0,9}|[1-9][0-9]{0,9})(\.(0x[0-9a-f]{1,3}|[0-9]{1,4})){0,4}", fullmatch=True)
)
def test_a_number_means_the_address_that_the_system_dials(text: str) -> None:
    try:
        meant = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        with pytest.raises(InvalidHost):
            parse_host(text)
    else:
        assert parse_host(text).text == meant
