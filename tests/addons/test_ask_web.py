"""A question in mitmweb is an entry that waits like any intercepted one, and that leads nowhere by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from mitmproxy import http
from mitmproxy.addons.view import View
from mitmproxy.flow import Flow
from mitmproxy.test import taddons

from codex_network_proxy.addons.ask_web import AskEntry, WebQuestions
from codex_network_proxy.addons.asking import Answer, Question
from codex_network_proxy.policy.decision import NetworkPolicyRequest, NetworkProtocol
from codex_network_proxy.policy.hosts import parse_endpoint


@pytest.fixture
def view() -> Iterator[View]:
    found = View()
    with taddons.context(found):
        yield found


def question(protocol: NetworkProtocol = NetworkProtocol.HTTPS_CONNECT, method: str | None = None) -> Question:
    target = parse_endpoint("other.test:443")
    return Question(1, NetworkPolicyRequest(protocol, target, method=method, client_address="127.0.0.1:5"))


def shown(view: View, asked: Question) -> tuple[WebQuestions, AskEntry, list[Answer]]:
    channel, answers = WebQuestions(), list[Answer]()
    assert channel.open
    channel.show(asked, answers.append)
    (entry,) = view
    assert isinstance(entry, AskEntry)
    return channel, entry, answers


@pytest.mark.parametrize(
    ("asked", "method", "url"),
    [
        pytest.param(question(), "CONNECT", "other.test:443", id="a CONNECT"),
        pytest.param(question(NetworkProtocol.HTTP, "PUT"), "PUT", "http://other.test:443", id="a request"),
        pytest.param(question(NetworkProtocol.SOCKS5_TCP), "SOCKS5", "other.test:443", id="a SOCKS5 tunnel"),
        pytest.param(question(NetworkProtocol.SOCKS5_UDP), "SOCKS5-UDP", "other.test:443", id="datagrams"),
    ],
)
def test_a_question_is_an_intercepted_entry(asked: Question, method: str, url: str, view: View) -> None:
    _, entry, _ = shown(view, asked)
    assert (entry.intercepted, entry.killable, entry.response, entry.marked) == (True, True, None, "")
    assert entry.request.method == method
    assert url in (entry.request.pretty_url.rstrip("/"), entry.request.authority)
    assert entry.comment == "allow? resume: once; mark, then resume: for this run; abort: no"


@pytest.mark.parametrize(
    ("marked", "answer"),
    [pytest.param("", Answer.ONCE, id="once"), pytest.param(":cat:", Answer.RUN, id="for the run")],
)
def test_to_resume_is_to_allow(marked: str, answer: Answer, view: View) -> None:
    _, entry, answers = shown(view, question())
    entry.marked = marked
    entry.resume()
    entry.resume()
    assert answers == [answer]


def test_to_abort_is_to_deny(view: View) -> None:
    _, entry, answers = shown(view, question())
    entry.kill()
    entry.resume()
    assert (answers, entry.killable) == ([Answer.DENY], False)


def test_to_remove_is_to_deny(view: View) -> None:
    _, entry, answers = shown(view, question())
    view.remove([entry])
    assert answers == [Answer.DENY]


def test_a_settled_question_goes_in_the_next_turn_of_the_loop(view: View) -> None:
    async def body() -> None:
        channel, entry, answers = shown(view, question())
        channel.withdraw(question(), "denied")
        assert len(view) == 1, "mitmweb may be going through its list"
        assert (entry.intercepted, entry.killable) == (False, False)
        await asyncio.sleep(0)
        assert (len(view), answers) == (0, [])
        channel.withdraw(question(), "denied")

    asyncio.run(body())


def test_after_the_end_an_entry_answers_nothing(view: View) -> None:
    channel, entry, answers = shown(view, question())
    channel.close()
    entry.resume()
    assert answers == []


def test_a_copy_and_what_is_saved_are_ordinary_entries(view: View) -> None:
    _, entry, answers = shown(view, question())
    copy = entry.copy()  # type: ignore[no-untyped-call]  # the engine's own
    for other in (copy, Flow.from_state(entry.get_state())):
        assert type(other) is http.HTTPFlow
        other.resume()
    assert answers == []


def test_without_mitmweb_nobody_is_reached() -> None:
    with taddons.context():
        channel = WebQuestions()
        assert not channel.open
        channel.show(question(), lambda answer: pytest.fail("nobody answered"))
        channel.withdraw(question(), "denied")
