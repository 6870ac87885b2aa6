"""Lists of patterns with a look-up that costs the same for ten entries and for a hundred thousand (spec A2.2-A2.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .addresses import embedded_ipv4
from .decision import IPAddress
from .hosts import Host
from .patterns import DomainPattern, IPNetwork, PatternKind, parse_pattern

__all__ = ["DomainPattern", "PatternKind", "PatternSet", "parse_pattern"]

_LOCALHOST = Host("localhost")


class PatternSet:
    """An allowlist or a denylist. Neither: the caller picks the reading that is safe for it.

    An allowlist asks `match` and `literal_entry`, a denylist `match_deny` and `match_address`. All of them
    answer with the pattern that matched, for the audit, or None.
    """

    __slots__ = ("_any_port", "_by_port", "_patterns", "holds_addresses")

    def __init__(self, patterns: Iterable[DomainPattern] = ()) -> None:
        self._patterns = tuple(dict.fromkeys(patterns))
        self.holds_addresses = any(pattern.network is not None for pattern in self._patterns)
        self._any_port = _Index()
        self._by_port: dict[int, _Index] = {}
        for pattern in self._patterns:
            index = self._any_port if pattern.port is None else self._by_port.setdefault(pattern.port, _Index())
            index.add(pattern)

    def __len__(self) -> int:
        return len(self._patterns)

    def __iter__(self) -> Iterator[DomainPattern]:
        return iter(self._patterns)

    def match(self, host: Host, port: int) -> DomainPattern | None:
        """The narrow reading, for an allowlist: a scoped address (`fe80::1%eth0`) needs an entry with that zone."""
        for index in self._indexes(port):
            if found := index.find(host):
                return found
        return None

    def match_deny(self, host: Host, port: int) -> DomainPattern | None:
        """The wide reading, for a denylist: an entry for an address covers every zone and IPv6 form of it."""
        found = self.match(host, port)
        return found if found or host.address is None else self.match_address(host.address, port)

    def match_address(self, address: IPAddress, port: int) -> DomainPattern | None:
        """The address or CIDR entry that covers `address`, a literal's or a resolved one (for a denylist)."""
        embedded = embedded_ipv4(address)
        for index in self._indexes(port):
            found = index.find_address(address)
            if found is None and embedded is not None:
                found = index.find_address(embedded)
            if found:
                return found
        return None

    def literal_entry(self, host: Host, port: int) -> DomainPattern | None:
        """The explicit local entry of spec A3: an equal address, a CIDR range around it, or the name `localhost`."""
        if host.is_literal:
            return self.match(host, port)
        if host != _LOCALHOST:
            return None
        for index in self._indexes(port):
            if found := index.exact.get(host.text):
                return found
        return None

    def covering(self, pattern: DomainPattern) -> DomainPattern | None:
        """An entry that matches everything `pattern` matches, for the lint (spec B2.6)."""
        indexes = [self._any_port] if pattern.port is None else self._indexes(pattern.port)
        for index in indexes:
            if found := index.find_covering(pattern):
                return found
        return None

    def _indexes(self, port: int) -> tuple[_Index, ...]:
        index = self._by_port.get(port)
        return (self._any_port,) if index is None else (index, self._any_port)


class _Index:
    """Patterns without regard to ports.

    Names: `exact` by name, `suffixes` (`*.` and `**.`) by the name below the wildcard, `labels` by what stands to the
    right of the rightmost label with a `*`. Addresses: by IP version, prefix length and prefix bits. A look-up tries
    each suffix of the host, or each prefix length in use, whatever the number of patterns.
    """

    __slots__ = ("exact", "labels", "networks", "suffixes")

    def __init__(self) -> None:
        self.exact: dict[str, DomainPattern] = {}
        self.suffixes: dict[str, DomainPattern] = {}
        self.labels: dict[str, _LabelTable] = {}
        self.networks: dict[int, dict[int, dict[int, DomainPattern]]] = {4: {}, 6: {}}

    def add(self, pattern: DomainPattern) -> None:
        if pattern.network is not None and pattern.zone is None:
            bits = _prefix_bits(pattern.network)
            self.networks[pattern.network.version].setdefault(pattern.network.prefixlen, {})[bits] = pattern
        elif pattern.kind is PatternKind.LABELS:
            left, label, right = _split_at_star(pattern.name)
            self.labels.setdefault(right, _LabelTable()).add(pattern, left, label)
            # No host holds a `*`, so this entry answers `find_covering` alone.
            self.exact[pattern.name] = pattern
        elif not pattern.is_wildcard:
            self.exact[pattern.name] = pattern
        elif pattern.kind is PatternKind.TREE or pattern.name not in self.suffixes:
            # `**.d` covers all of `*.d`, so one place per name is enough.
            self.suffixes[pattern.name] = pattern

    def find(self, host: Host) -> DomainPattern | None:
        if host.address is None:
            return self.find_name(host.text)
        if host.zone is None:
            return self.find_address(host.address)
        return self.exact.get(host.text)

    def find_name(self, name: str) -> DomainPattern | None:
        return self.exact.get(name) or self._find_tree(name) or self._find_above(name) or self._find_labels(name)

    def find_address(self, address: IPAddress) -> DomainPattern | None:
        return self._find_network(int(address), address.version, address.max_prefixlen, address.max_prefixlen)

    def find_covering(self, pattern: DomainPattern) -> DomainPattern | None:
        if pattern.network is not None and pattern.zone is None:
            network = pattern.network
            return self._find_network(int(network[0]), network.version, network.max_prefixlen, network.prefixlen)
        match pattern.kind:
            case PatternKind.SUBDOMAINS:
                return self.suffixes.get(pattern.name) or self._find_above(pattern.name)
            case PatternKind.TREE:
                return self._find_tree(pattern.name) or self._find_above(pattern.name)
            case PatternKind.LABELS:
                return self.exact.get(pattern.name) or self._find_above(pattern.name)
            case _:
                return self.exact.get(pattern.name) if pattern.zone else self.find_name(pattern.name)

    def _find_tree(self, name: str) -> DomainPattern | None:
        found = self.suffixes.get(name)
        return found if found and found.kind is PatternKind.TREE else None

    def _find_above(self, name: str) -> DomainPattern | None:
        dot = name.find(".") if self.suffixes else -1
        while dot >= 0:
            if found := self.suffixes.get(name[dot + 1 :]):
                return found
            dot = name.find(".", dot + 1)
        return None

    def _find_labels(self, name: str) -> DomainPattern | None:
        start, dot = 0, name.find(".") if self.labels else -1
        while dot >= 0:
            table = self.labels.get(name[dot + 1 :])
            if table and (found := table.find(name[:start].rstrip("."), name[start:dot])):
                return found
            start, dot = dot + 1, name.find(".", dot + 1)
        return None

    def _find_network(self, value: int, version: int, width: int, longest: int) -> DomainPattern | None:
        for length, networks in self.networks[version].items():
            if length <= longest and (found := networks.get(value >> width - length)):
                return found
        return None


class _LabelTable:
    """Patterns with a `*` in the label to the left of one fixed suffix, by the literal ends of that label.

    There are as many look-ups as there are pairs of lengths in use, at most some hundreds and in practice a few. Only
    patterns that differ in nothing but literals between two stars, or in a second label with a star, share a slot.
    """

    __slots__ = ("_shapes",)

    def __init__(self) -> None:
        self._shapes: dict[tuple[int, int], dict[tuple[str, str, str], list[DomainPattern]]] = {}

    def add(self, pattern: DomainPattern, left: str, label: str) -> None:
        head, _, rest = label.partition("*")
        tail = rest.rpartition("*")[2]
        slots = self._shapes.setdefault((len(head), len(tail)), {})
        slots.setdefault((_slot(left), head, tail), []).append(pattern)

    def find(self, left: str, label: str) -> DomainPattern | None:
        for (head, tail), slots in self._shapes.items():
            ends = label[:head], label[len(label) - tail :]
            for slot in (left, "*"):
                for pattern in slots.get((slot, *ends), ()):
                    if _labels_fit(pattern.name, left, label):
                        return pattern
        return None


def _slot(left: str) -> str:
    """Literal labels to the left of the starred one are part of the key; starred ones cannot be."""
    return "*" if "*" in left else left


def _split_at_star(name: str) -> tuple[str, str, str]:
    """What stands left of, in and right of the rightmost label with a `*`."""
    front, _, right = name[name.rfind("*") :].partition(".")
    left, _, label = (name[: name.rfind("*")] + front).rpartition(".")
    return left, label, right


def _labels_fit(pattern: str, left: str, label: str) -> bool:
    pattern_left, pattern_label, _ = _split_at_star(pattern)
    if not _label_fits(pattern_label, label):
        return False
    patterns, labels = pattern_left.split("."), left.split(".")
    return len(patterns) == len(labels) and all(map(_label_fits, patterns, labels))


def _label_fits(pattern: str, label: str) -> bool:
    """Whether one label matches, each `*` standing for any characters or none. Linear: there is no backtracking."""
    head, *middles = pattern.split("*")
    if not middles:
        return pattern == label
    tail = middles.pop()
    at, end = len(head), len(label) - len(tail)
    if at > end or not label.startswith(head) or not label.endswith(tail):
        return False
    for middle in middles:
        at = label.find(middle, at, end)
        if at < 0:
            return False
        at += len(middle)
    return True


def _prefix_bits(network: IPNetwork) -> int:
    return int(network[0]) >> network.max_prefixlen - network.prefixlen
