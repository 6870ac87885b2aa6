"""Class C: a name that changes its mind. What was checked is what is dialled, and what is new is checked anew."""

from __future__ import annotations

import pytest

from tests.kit.doors import BY_NAME, FAILED, PASSED, Door
from tests.kit.fleet import Fleet
from tests.kit.origins import HttpOrigin
from tests.kit.policies import Policy

PUBLIC = "93.184.216.34"
INTERNAL = "169.254.169.254"

# Each door has names of its own, as an answer is given once.
NAMES = tuple(
    (f"{label}-{door.name}.dns.test", answers)
    for door in BY_NAME
    for label, answers in (
        ("c03", ((PUBLIC,), ("127.0.0.1",))),
        ("c04", (("127.0.0.1",), (INTERNAL,))),
        ("c12", ((), ("127.0.0.1",))),
    )
)
STRICT = Policy(allowed=("**.dns.test",), names=NAMES)
BINDING = Policy(allowed=("**.dns.test",), allow_local_binding=True, names=NAMES)


@pytest.mark.parametrize("door", BY_NAME, ids=lambda door: door.name)
def test_c03_public_first_loopback_later(door: Door, fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    proxy, mark = fleet.get(STRICT, fast_path), origin.recorder.mark()
    host, port = f"c03-{door.name}.dns.test", str(origin.port).encode()
    assert door.ask(proxy, host.encode(), port).word == FAILED, "there is no way to the public address"
    assert proxy.world.lookups().count(host) == 1, "one look-up, not one to check and one to dial"
    for _ in range(3):
        assert door.ask(proxy, host.encode(), port).word in (FAILED, "not_allowed_local")
    assert {address for address, _ in proxy.world.dials()} == {PUBLIC}
    assert not origin.recorder.since(mark)


@pytest.mark.parametrize("door", BY_NAME, ids=lambda door: door.name)
def test_c04_loopback_first_metadata_later(door: Door, fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    proxy = fleet.get(BINDING, fast_path)
    host, port = f"c04-{door.name}.dns.test", str(origin.port).encode()
    assert door.ask(proxy, host.encode(), port).word == PASSED
    for _ in range(3):
        assert door.ask(proxy, host.encode(), port).word in (PASSED, "not_allowed_local")
    assert INTERNAL not in {address for address, _ in proxy.world.dials()}


@pytest.mark.parametrize("door", BY_NAME, ids=lambda door: door.name)
def test_c12_a_failed_lookup_is_not_remembered(door: Door, fleet: Fleet, origin: HttpOrigin, fast_path: bool) -> None:
    proxy = fleet.get(BINDING, fast_path)
    host, port = f"c12-{door.name}.dns.test", str(origin.port).encode()
    assert door.ask(proxy, host.encode(), port).word == FAILED
    assert door.ask(proxy, host.encode(), port).word == PASSED


def test_c13_names_are_asked_of_the_system_only(fleet: Fleet, fast_path: bool) -> None:
    """No query of the proxy's own goes to a name server, so no HTTPS or SVCB record can change the way."""
    dials = [*fleet.get(STRICT, fast_path).world.dials(), *fleet.get(BINDING, fast_path).world.dials()]
    assert [dial for dial in dials if dial[1] in (53, 853)] == []
