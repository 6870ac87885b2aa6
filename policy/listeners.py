"""Where the proxy listens: reading `proxy_url` and `socks_url`, and keeping them on loopback (spec B1.6, B1.7)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from .decision import IPAddress
from .errors import InvalidHost, shown
from .hosts import parse_host

LOOPBACK = IPv4Address("127.0.0.1")

DEFAULT_HTTP_PORT = 3128
DEFAULT_SOCKS_PORT = 8081

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_SCHEME_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address and port to bind. Port 0 lets the system choose one."""

    host: IPAddress
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if isinstance(self.host, IPv6Address) else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Bind:
    """The address to bind after clamping, and what to tell the operator when it is not the harmless one asked for."""

    address: ListenAddress
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedAddress:
    """What an address string means, and what of it could not be taken at its word."""

    address: ListenAddress
    notes: tuple[str, ...] = ()


def parse_listen_address(text: str, default_port: int) -> ListenAddress:
    """Reads `proxy_url` or `socks_url` (spec B1.6): a URL, `host:port`, `host`, or an address.

    Only the host and the port count. A name is never resolved: it means 127.0.0.1. A port that is no number, or is
    the scheme's own (`http://…:80`), means `default_port`. Raises `InvalidHost` when there is no host at all.
    """
    return read_listen_address(text, default_port).address


def read_listen_address(text: str, default_port: int) -> ParsedAddress:
    """`parse_listen_address`, with a note for each part that was replaced by a default."""
    host_text, port_text, scheme = _split(text.strip())
    if not host_text:
        raise InvalidHost(f"missing host in network proxy address: {shown(text)}")
    host, host_note = _host(host_text)
    port, port_note = _port(port_text, scheme, default_port)
    return ParsedAddress(ListenAddress(host, port), tuple(note for note in (host_note, port_note) if note))


def clamp(address: ListenAddress, dangerously_allow: bool, unix_sockets_configured: bool) -> Bind:
    """Keeps a listener on loopback unless it was opened on purpose (spec B1.7).

    With unix sockets configured it is always 127.0.0.1: nobody shall reach local daemons through an open proxy.
    """
    safe = ListenAddress(LOOPBACK, address.port)
    if address == safe:
        return Bind(address)
    if unix_sockets_configured:
        return Bind(safe, f"{address} is clamped to {safe}, because unix sockets are configured; write {safe}")
    if address.host.is_loopback:
        return Bind(address)
    if dangerously_allow:
        return Bind(address, f"DANGEROUS: {address} is reachable from other machines; write {safe} to keep it local")
    return Bind(
        safe,
        f"{address} is not loopback and is clamped to {safe}; write {safe}, "
        "or set dangerously_allow_non_loopback_proxy = true to expose the proxy",
    )


def _split(text: str) -> tuple[str, str, str]:
    """Host, port and scheme of an address string; user-info, path and query are dropped."""
    if _literal(text) is not None:
        return text, "", ""
    scheme, rest = found.groups() if (found := _SCHEME.fullmatch(text)) else ("http", text)
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0].rpartition("@")[2]
    if bracketed := re.fullmatch(r"\[([^\]]*)\](?::(.*))?", authority, re.DOTALL):
        return bracketed[1], bracketed[2] or "", scheme.lower()
    if authority.count(":") == 1:
        host, _, port = authority.partition(":")
        return host, port, scheme.lower()
    return authority, "", scheme.lower()


def _host(text: str) -> tuple[IPAddress, str]:
    if text.lower() == "localhost":
        return LOOPBACK, ""
    if (address := _literal(text)) is not None:
        return address, ""
    return LOOPBACK, f"names are not resolved here, so {shown(text)} means {LOOPBACK}; write an address"


def _port(text: str, scheme: str, default: int) -> tuple[int, str]:
    if not text:
        return default, ""
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 65535:
        return default, f"{shown(text)} is not a port, so the default {default} is used; write a number up to 65535"
    if _SCHEME_PORTS.get(scheme) == int(text):
        note = f"the port that belongs to {scheme}:// counts as none, so the default {default} is used"
        return default, f"{note}; choose another port"
    return int(text), ""


def _literal(text: str) -> IPAddress | None:
    """The address a literal means, in whatever spelling (spec A2.1); `None` for a name."""
    try:
        host = parse_host(text)
    except InvalidHost:
        return None
    return ip_address(host.text) if host.address is not None else None
