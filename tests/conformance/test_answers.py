"""Classes F10, F14 and J03 where HTTPS is read: a bad answer costs its own request, and leads nobody around us."""

from __future__ import annotations

import pytest

from tests.kit.doors import FAILED, PASSED
from tests.kit.fleet import Fleet
from tests.kit.hooks import CANARY
from tests.kit.inner import INNER_DOORS, Inner, InnerDoor, enter, http1_bytes
from tests.kit.origins import RAW_ANSWERS, HttpOrigin
from tests.kit.proxy import ProxyProcess
from tests.kit.wire import parse_head

from .rows_inner import FULL, LIMITED

HOOKED, ELSEWHERE = "any.allowed.test", "evil.test"
doors = pytest.mark.parametrize("door", [pytest.param(door, id=door.name) for door in INNER_DOORS])


@pytest.fixture
def proxy(inspected: Fleet) -> ProxyProcess:
    return inspected.get(FULL)


def at(host: str, origin: HttpOrigin) -> bytes:
    return f"{host}:{origin.port}".encode()


@doors
@pytest.mark.parametrize("name", [*RAW_ANSWERS, "endless-head"])
def test_f10_a_bad_answer_is_a_502(name: str, door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    outcome = door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/raw/" + name.encode()))
    assert outcome.word == FAILED, outcome.answer
    door.check(outcome)
    assert outcome.answer.text.startswith("upstream failure"), outcome.answer
    assert CANARY not in outcome.answer.text


@doors
def test_f10_a_second_answer_is_nobodys(door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    outcome = door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/raw/two-answers"))
    assert outcome.answer.body == b"first"
    with enter(proxy, at(HOOKED, tls_origin)) as client:
        assert client.ask(http1_bytes(at(HOOKED, tls_origin), Inner(path=b"/raw/two-answers"))).body == b"first"
        assert client.ask(http1_bytes(at(HOOKED, tls_origin), Inner(path=b"/t"))).body == b"ok from tls\n"


@doors
def test_f10_an_endless_head_is_not_kept(door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin) -> None:
    before = proxy.resident()
    door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/raw/endless-head"))
    assert proxy.resident() - before < 16 << 20


@doors
def test_f14_other_ways_to_the_origin_are_not_passed_on(
    door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    """The origin names another protocol in `Alt-Svc`; the client does not know that a proxy stands between."""
    outcome = door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/redirect?to=https://evil.test/"))
    assert (outcome.word, outcome.answer.get("location")) == ("302", "https://evil.test/")
    assert outcome.answer.get("alt-svc") is None


@doors
def test_f14_fields_of_the_origins_connection_stay_behind(
    door: InnerDoor, proxy: ProxyProcess, tls_origin: HttpOrigin
) -> None:
    answer = door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/hops")).answer
    assert (answer.body, answer.get("x-kept")) == (b"hops\n", "yes")
    names = {name.lower() for name, _ in answer.head.fields}
    assert not names & {"x-private", "keep-alive", "proxy-authenticate", "upgrade", "connection"}


@doors
def test_j03_where_a_redirect_leads_the_secret_does_not_follow(
    door: InnerDoor, inspected: Fleet, tls_origin: HttpOrigin
) -> None:
    proxy, there = inspected.get(LIMITED), at(ELSEWHERE, tls_origin)
    answer = door.send(proxy, at(HOOKED, tls_origin), Inner(path=b"/redirect?to=https://" + there + b"/echo")).answer
    assert answer.get("location") == f"https://{there.decode()}/echo"
    assert CANARY not in str(answer)
    assert door.send(proxy, there, Inner(path=b"/echo")).word == PASSED
    assert parse_head(tls_origin.recorder.heads[-1]).all("authorization") == []
