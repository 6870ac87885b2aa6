"""The pattern language of `allowed_domains` and `denied_domains` (spec A2.2).

    pattern = ( host | "*." host | "**." host | labels | address | cidr ) [ ":" port ]

`host` is one name. `*.host` is its subdomains at any depth, `**.host` the same and the name itself. In `labels` a `*`
stands inside a label together with literal characters and never crosses a dot: `region*.v2.example.com`. IPv6 with a
port needs brackets. Without a port a pattern means every port. Everything else is `InvalidPattern`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from .breadth import address_warning, labels_warning, network_warning, suffix_warning
from .decision import IPAddress
from .errors import InvalidHost, InvalidPattern
from .hosts import Host, parse_host, parse_port
from .text import printable

IPNetwork = IPv4Network | IPv6Network

_TRIMMED = " \t\r\n"
# IDNA takes these three for dots (UTS 46), so they must be dots before the text is split into labels.
_DOTS = str.maketrans({"\u3002": ".", "\uff0e": ".", "\uff61": "."})
_GLOBAL = re.compile(r"(?=.*\*)[*.?\[\]]+")
_GLOB_SYNTAX = re.compile(r"[?{}!\\^|$()+]")
_PREFIX_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")
_STARRED_LABEL = re.compile(r"[A-Za-z0-9_*-]+")
_DECIMAL_END = re.compile(r"(?P<address>[^.\[]*:)(?P<port>[1-9][0-9]{0,3})")
_STRAY_BRACKETS = "has brackets; write them around an IPv6 address only, `[::1]:443`, and one entry for each name"
_SHOWN = 80


class PatternKind(StrEnum):
    HOST = "host"
    SUBDOMAINS = "subdomains"
    TREE = "tree"
    LABELS = "labels"
    ADDRESS = "address"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class DomainPattern:
    """One entry of a list, in canonical form.

    `text` is the whole pattern as logs and audit show it, `name` the part without `*.`, `**.` and port. `network` is
    set for addresses (with full prefix length) and CIDR ranges, `zone` for addresses like `fe80::1%lo0`.
    """

    text: str
    kind: PatternKind
    name: str
    port: int | None = None
    network: IPNetwork | None = None
    zone: str | None = None

    @property
    def is_wildcard(self) -> bool:
        return self.kind in (PatternKind.SUBDOMAINS, PatternKind.TREE, PatternKind.LABELS)

    @property
    def is_broad(self) -> bool:
        """Whether the lint should warn: legal, and wider than most people who write it mean."""
        return self.warning is not None

    @property
    def warning(self) -> str | None:
        """What is dangerous about this legal pattern and what to write instead, or None."""
        if self.kind in (PatternKind.SUBDOMAINS, PatternKind.TREE):
            return suffix_warning(self.name)
        if self.kind is PatternKind.LABELS:
            return labels_warning(self.name)
        if self.kind is PatternKind.ADDRESS:
            return address_warning(self.name) if self.port is None else None
        return None if self.network is None else network_warning(self.network)

    def on_every_port(self) -> DomainPattern:
        """The same pattern without its port."""
        prefix = self.text[: self.text.find(self.name)].removeprefix("[")
        return replace(self, text=prefix + self.name, port=None) if self.port else self

    def __str__(self) -> str:
        return self.text


def parse_pattern(text: str) -> DomainPattern:
    """The canonical form of one entry of a domain list.

    Surrounding blanks, case, trailing dots, Unicode and IPv4 spellings are canonicalised as in a host. Raises
    `InvalidPattern`, whose text says what is wrong and what to write instead.
    """
    trimmed = text.strip(_TRIMMED).translate(_DOTS)
    _refuse_foreign_syntax(trimmed)
    head, port = _split_port(trimmed)
    if "/" in head:
        return _parse_network(head, port)
    for prefix, kind in (("**.", PatternKind.TREE), ("*.", PatternKind.SUBDOMAINS)):
        if head.startswith(prefix):
            return _parse_suffix(head.removeprefix(prefix), prefix, kind, port)
    if "*" in head:
        return _parse_labels(head, port)
    return _parse_exact(head, port)


def _refuse_foreign_syntax(text: str) -> None:
    if not text:
        raise InvalidPattern("is empty; write a host such as `api.example.com`")
    if _GLOBAL.fullmatch(text):
        raise InvalidPattern(
            f'unsupported global wildcard domain pattern "{_show(text)}"; '
            "use exact hosts or scoped wildcards like *.example.com or **.example.com"
        )
    if "://" in text:
        raise InvalidPattern(f"is a URL; write the host alone, {_instead_of_url(text)}")
    if not text.startswith("[") and ("[" in text or "]" in text):
        raise InvalidPattern(_STRAY_BRACKETS)
    if odd := _GLOB_SYNTAX.search(text):
        raise InvalidPattern(f"has a `{odd.group()}`; only `*` is a wildcard, so write one entry for each name")


def _split_port(text: str) -> tuple[str, int | None]:
    """The pattern without port and without brackets around a CIDR range; brackets around an address stay."""
    if text.startswith("["):
        inner, _, rest = text.removeprefix("[").partition("]")
        if ":" not in inner or rest[:1] not in ("", ":"):
            raise InvalidPattern(_STRAY_BRACKETS)
        head, colon, port = (inner if "/" in inner else f"[{inner}]"), rest[:1], rest[1:]
    elif text.count(":") == 1:
        head, colon, port = text.partition(":")
    else:
        return text, None
    return head, _parse_port(head, port) if colon else None


def _parse_port(head: str, port: str) -> int:
    try:
        return parse_port(port)
    except InvalidHost:
        shown = _show(head)
        raise InvalidPattern(
            f"has a port that is not a number from 1 to 65535; write `{shown}:443`, or `{shown}` for every port"
        ) from None


def _parse_exact(head: str, port: int | None) -> DomainPattern:
    host = _canonical(head)
    if host.address is None:
        return DomainPattern(_with_port(host.text, port), PatternKind.HOST, host.text, port)
    _refuse_two_readings(head, host.address)
    network = ip_network(host.address)
    return DomainPattern(_with_port(host.text, port), PatternKind.ADDRESS, host.text, port, network, host.zone)


def _refuse_two_readings(head: str, address: IPAddress) -> None:
    """`::1:443` is an address in the obsolete `::/96`. Nobody means it, and everybody means a port."""
    end = _DECIMAL_END.fullmatch(head)
    if end is None or not 1 < int(address) < 1 << 32:
        return
    front = end["address"] if end["address"] == "::" else end["address"].removesuffix(":")
    raise InvalidPattern(f"has two readings; write `[{front}]:{end['port']}` for a port, or `[{head}]` for an address")


def _parse_suffix(rest: str, prefix: str, kind: PatternKind, port: int | None) -> DomainPattern:
    if "*" in rest:
        raise InvalidPattern(f"has a second wildcard after `{prefix}`; write a plain host there")
    host = _canonical(rest)
    if host.is_literal:
        raise InvalidPattern("is a wildcard on an IP address; write a CIDR range such as `10.0.0.0/8`")
    return DomainPattern(_with_port(prefix + host.text, port), kind, host.text, port)


def _parse_labels(head: str, port: int | None) -> DomainPattern:
    labels = head.rstrip(".").split(".")
    if "*" in labels[-1]:
        raise InvalidPattern(f"has a wildcard in its last label; {_instead_of_open_end(labels)}")
    starred = [at for at, label in enumerate(labels) if "*" in label]
    for at in starred:
        _check_starred_label(labels, at)
    # `_` keeps the length of the name and never turns a label into a number or into punycode.
    canonical = _canonical(".".join("_" * len(label) if "*" in label else label for label in labels)).text.split(".")
    if len(canonical) != len(labels):
        # IDNA drops some characters altogether, and with them the label that was to stand right of the `*`.
        raise InvalidPattern("has an empty label; write a host such as `api.example.com`")
    for at in starred:
        canonical[at] = labels[at].lower()
    name = ".".join(canonical)
    return DomainPattern(_with_port(name, port), PatternKind.LABELS, name, port)


def _check_starred_label(labels: list[str], at: int) -> None:
    label, rest = labels[at], _show(".".join(labels[at + 1 :]))
    if not label.strip("*"):
        raise InvalidPattern(f"has a label that is only `*`; that may stand first alone, as in `*.{rest}`")
    if "**" in label:
        raise InvalidPattern(f"has `**` inside a label; write one `*` there, or `**.{rest}`")
    if not _STARRED_LABEL.fullmatch(label) or label.lower().startswith("xn--"):
        raise InvalidPattern(
            f"has a `*` in a label that is not plain letters, digits, `-` and `_`; write each name, or `*.{rest}`"
        )


def _parse_network(head: str, port: int | None) -> DomainPattern:
    address, _, length = head.partition("/")
    if ":" not in address and not re.fullmatch(r"[0-9.]+", address):
        raise InvalidPattern(f"has a path; the policy is about hosts, so write {_example(address)}")
    network = None if "%" in head or not _PREFIX_LENGTH.fullmatch(length) else _network_or_none(head)
    if network is None:
        raise InvalidPattern("is not a CIDR range; write one such as `10.0.0.0/8`, `fd00::/8` or `[fd00::/8]:443`")
    if network.network_address != ip_address(address):
        raise InvalidPattern(f"has bits set to the right of its prefix; write `{network}`")
    network = _unmapped(network)
    return DomainPattern(_with_port(str(network), port), PatternKind.NETWORK, str(network), port, network)


def _network_or_none(text: str) -> IPNetwork | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _unmapped(network: IPNetwork) -> IPNetwork:
    """Hosts are never IPv4-mapped in canonical form, so a range of mapped addresses must not be either."""
    if isinstance(network, IPv4Network) or network.prefixlen < 96 or not network.network_address.ipv4_mapped:
        return network
    return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))


def _canonical(text: str) -> Host:
    try:
        return parse_host(text)
    except InvalidHost as problem:
        raise InvalidPattern(f"{problem}; write a host such as `api.example.com`") from None


def _with_port(name: str, port: int | None) -> str:
    if port is None:
        return name
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _instead_of_url(url: str) -> str:
    authority = re.split(r"[/?#]", url.partition("://")[2])[0]
    return _example(authority.rpartition("@")[2])


def _instead_of_open_end(labels: list[str]) -> str:
    numbers = [label for label in labels if label.isdecimal()]
    if not 0 < len(numbers) < 4 or labels != numbers + ["*"] * (len(labels) - len(numbers)):
        return "write each domain in full, such as `*.example.com`"
    return f"for addresses write a CIDR range, `{'.'.join((numbers + ['0'] * 4)[:4])}/{8 * len(numbers)}`"


def _example(host: str) -> str:
    return f"`{_show(host or 'api.example.com')}`"


def _show(text: str) -> str:
    return printable(text, _SHOWN)
