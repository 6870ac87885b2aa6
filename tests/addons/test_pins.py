"""Pinned names: what is a pin, and which names have one."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from codex_network_proxy.addons.resolver import PinnedResolver, parse_pin, parse_pins
from codex_network_proxy.policy.errors import ResolutionFailed

from .resolver_kit import resolve


class Fallback:
    async def resolve(self, name: str, port: int) -> tuple[Any, ...]:
        raise ResolutionFailed(f"asked for {name}:{port}")


def test_a_pinned_name_has_its_pins_and_no_other_name_has() -> None:
    pins = parse_pins(["api.example.test=127.0.0.1", "api.example.test=::1", "b.test=192.0.2.1", "b.test=192.0.2.1"])
    resolver = PinnedResolver(pins, Fallback())
    assert resolve(resolver, "api.example.test") == ["127.0.0.1", "::1"]
    assert resolve(resolver, "b.test") == ["192.0.2.1"]
    with pytest.raises(ResolutionFailed, match=r"asked for sub\.b\.test:443"):
        resolve(resolver, "sub.b.test")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        pytest.param("api.example.test=127.0.0.1", "api.example.test", "127.0.0.1", id="as documented"),
        pytest.param("API.Example.TEST.=127.0.0.1", "api.example.test", "127.0.0.1", id="the name is canonicalised"),
        pytest.param("bücher.test=192.0.2.1", "xn--bcher-kva.test", "192.0.2.1", id="also an international one"),
        pytest.param("a.test=2001:db8::1", "a.test", "2001:db8::1", id="IPv6"),
        pytest.param("a.test=[2001:db8::1]", "a.test", "2001:db8::1", id="IPv6 in brackets"),
        pytest.param("a.test= 192.0.2.1", "a.test", "192.0.2.1", id="a space before the address"),
        pytest.param("localhost=127.0.0.2", "localhost", "127.0.0.2", id="localhost"),
    ],
)
def test_a_pin(text: str, name: str, address: str) -> None:
    assert parse_pin(text) == (name, ip_address(address))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("a.test", "an address is missing", id="no address"),
        pytest.param("a.test=", "'' does not appear to be an IPv4 or IPv6 address", id="an empty address"),
        pytest.param("=192.0.2.1", "host is empty", id="no name"),
        pytest.param("a.test=b.test", "'b.test' does not appear to be an IPv4 or IPv6 address", id="a name for a name"),
        pytest.param("a.test=127.1", "'127.1' does not appear to be an IPv4 or IPv6 address", id="a short spelling"),
        pytest.param(
            "a.test:443:192.0.2.1", "host is not a valid IPv6 address", id="curl's form, which has the port inside"
        ),
        pytest.param("192.0.2.1=192.0.2.2", "an address is never looked up", id="a literal for a name"),
        pytest.param("2130706433=192.0.2.2", "an address is never looked up", id="a literal in disguise"),
        pytest.param("*.a.test=192.0.2.1", "host has a character", id="a pattern"),
    ],
)
def test_what_is_no_pin_says_what_to_write(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="--resolve") as refused:
        parse_pin(text)
    message = str(refused.value)
    assert message.startswith(f"--resolve {text!r}: ")
    assert complaint in message
    assert message.endswith("; write NAME=ADDRESS, such as api.example.com=127.0.0.1")
