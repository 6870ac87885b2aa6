"""Class C: what a name resolves to. Every address counts, one look-up is made, and only what was checked is dialled."""

from __future__ import annotations

from tests.kit.policies import Policy

from .rows import DENIED, FAILED, LOCAL, NOT_ALLOWED, PASSED, HostRow

PUBLIC, PUBLIC_6 = "93.184.216.34", "2606:2800:220:1::1"
ANSWERS: dict[str, tuple[str, ...]] = {
    "loopback": ("127.0.0.1",),
    "loopback6": ("::1",),
    "mixed": (PUBLIC, "10.0.0.1"),
    "mixed-reversed": ("10.0.0.1", PUBLIC),
    "v6-private": (PUBLIC, "fd00::1"),
    "mapped": ("::ffff:127.0.0.1",),
    "nat64": ("64:ff9b::7f00:1",),
    "sixtofour": ("2002:7f00:1::1",),
    "metadata": ("169.254.169.254",),
    "unspecified": ("0.0.0.0",),
    "none": (),
    "public": (PUBLIC,),
    "public-both": (PUBLIC_6, PUBLIC),
    "denied-range": ("9.9.9.9",),
    "denied-mixed": (PUBLIC, "9.9.9.9"),
}
NAMES = tuple((f"{label}.dns.test", (addresses,)) for label, addresses in ANSWERS.items())

RESOLVING = Policy(allowed=("**.dns.test",), denied=("9.9.9.0/24", "evil.dns.test"), names=NAMES)
# A range in the allow list permits literals, never names that point there.
RANGES = Policy(allowed=("**.dns.test", "127.0.0.0/8", "169.254.169.254", "localhost"), denied=(), names=NAMES)
BINDING = Policy(allowed=("**.dns.test",), denied=(), allow_local_binding=True, names=NAMES)
PINNED = Policy(
    allowed=("**.dns.test",),
    denied=("9.9.9.0/24",),
    pins=(("hosts.dns.test", "127.0.0.1"), ("meta.dns.test", "169.254.169.254"), ("ranged.dns.test", "9.9.9.9")),
)


def _resolves(case: str, label: str, right: str, policy: Policy = RESOLVING) -> HostRow:
    return HostRow(f"{case} {label} {right}", f"{label}.dns.test".encode(), (right,), policy)


RESOLUTION = (
    _resolves("C01", "loopback", LOCAL),
    _resolves("C01", "loopback6", LOCAL),
    _resolves("C01", "metadata", LOCAL),
    _resolves("C01", "unspecified", LOCAL),
    _resolves("C02", "mixed", LOCAL),
    _resolves("C02", "mixed-reversed", LOCAL),
    _resolves("C05", "v6-private", LOCAL),
    _resolves("C05", "mapped", LOCAL),
    _resolves("C05", "nat64", LOCAL),
    _resolves("C05", "sixtofour", LOCAL),
    _resolves("C06 resolving to nothing:", "none", FAILED),
    _resolves("C06 resolving to an unreachable address:", "public", FAILED),
    _resolves("C06 resolving to two unreachable addresses:", "public-both", FAILED),
    _resolves("C08 an address in a denied range:", "denied-range", DENIED),
    _resolves("C08 one address in a denied range:", "denied-mixed", DENIED),
    _resolves("C10 a listed range does not open a name:", "loopback", LOCAL, RANGES),
    _resolves("C10 a listed literal does not open a name:", "metadata", LOCAL, RANGES),
    _resolves("C11 local binding opens", "loopback", PASSED, BINDING),
    _resolves("C11 local binding opens", "mapped", PASSED, BINDING),
    _resolves("C11 local binding keeps closed", "metadata", LOCAL, BINDING),
    _resolves("C11 local binding keeps closed", "nat64", LOCAL, BINDING),
    _resolves("C09 a pinned name is judged all the same:", "hosts", LOCAL, PINNED),
    _resolves("C09 a name pinned to metadata:", "meta", LOCAL, PINNED),
    _resolves("C09 a name pinned into a denied range:", "ranged", DENIED, PINNED),
    HostRow("C07 a name that is not allowed", b"secret-in-label.evil.test", (NOT_ALLOWED,), RESOLVING),
    HostRow("C07 a name that is denied", b"evil.dns.test", (DENIED,), RESOLVING),
)
