"""Class F10: an origin that answers badly costs its own request, and nothing else."""

from __future__ import annotations

import pytest

from tests.kit.answers import check_refusal
from tests.kit.fleet import Fleet
from tests.kit.origins import RAW_ANSWERS, HttpOrigin
from tests.kit.policies import OPEN
from tests.kit.proxy import ProxyProcess
from tests.kit.raw import Client, exchange, get


@pytest.fixture
def proxy(fleet: Fleet, fast_path: bool) -> ProxyProcess:
    return fleet.get(OPEN, fast_path)


@pytest.mark.parametrize("name", [*RAW_ANSWERS, "endless-head"])
def test_f10_a_bad_answer_is_a_502(name: str, proxy: ProxyProcess, origin: HttpOrigin) -> None:
    answer = exchange(proxy.http, get(f"http://allowed.test:{origin.port}/raw/{name}"))
    check_refusal(answer, 502)
    assert answer.text.startswith("upstream failure"), answer
    assert exchange(proxy.http, get(f"http://allowed.test:{origin.port}/t")).status == 200


def test_f10_a_second_answer_is_nobodys(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    with Client(proxy.http) as client:
        assert client.ask(get(f"http://allowed.test:{origin.port}/raw/two-answers")).body == b"first"
        assert client.ask(get(f"http://allowed.test:{origin.port}/t")).text == "ok from shared\n"


def test_f10_an_endless_head_is_not_kept(proxy: ProxyProcess, origin: HttpOrigin) -> None:
    before = proxy.resident()
    exchange(proxy.http, get(f"http://allowed.test:{origin.port}/raw/endless-head"))
    assert proxy.resident() - before < 16 << 20


def test_nobody_home_is_a_502(proxy: ProxyProcess) -> None:
    with HttpOrigin() as gone:
        port = gone.port
    answer = exchange(proxy.http, get(f"http://allowed.test:{port}/t"))
    check_refusal(answer, 502)
    assert answer.text.startswith("upstream failure"), answer
