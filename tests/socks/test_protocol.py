from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv6Address
from typing import assert_never

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codex_network_proxy.socks.addressing import Target, write_target
from codex_network_proxy.socks.protocol import (
    Asked,
    Command,
    Foreign,
    Handshake,
    Reading,
    Refused,
    ReplyCode,
    Step,
    reply,
)

GREETING = b"\x05\x01\x00"
GREETED = b"\x05\x00"
NO_METHOD = b"\x05\xff"
V4 = Target(IPv4Address("192.0.2.7"), 443)
V6 = Target(IPv6Address("2001:db8::7"), 80)
NAMED = Target(b"a.test", 22)


def _request(target: Target, command: int = Command.CONNECT, *, version: int = 5, reserved: int = 0) -> bytes:
    return bytes((version, command, reserved)) + write_target(target.host, target.port)


def _failure(code: int) -> bytes:
    return bytes((5, code, 0, 1, 0, 0, 0, 0, 0, 0))


def converse(pieces: list[bytes]) -> tuple[bytes, Step, bytes]:
    """All that was answered, the last step, and what the client has sent beyond it."""
    handshake, answered = Handshake(), b""
    step: Step = Reading()
    for at, piece in enumerate(pieces):
        step = handshake.feed(piece)
        match step:
            case Reading():
                answered += step.answer
            case Asked():
                return answered + step.answer, step, step.early + b"".join(pieces[at + 1 :])
            case Refused():
                return answered + step.answer, step, b""
            case Foreign():
                return answered, step, b""
            case _:
                assert_never(step)
    return answered, step, b""


SERVED = [
    pytest.param(GREETING, V4, Command.CONNECT, 0, id="IPv4"),
    pytest.param(GREETING, V6, Command.CONNECT, 0, id="IPv6"),
    pytest.param(GREETING, NAMED, Command.CONNECT, 0, id="a name"),
    pytest.param(GREETING, Target(b"", 22), Command.CONNECT, 0, id="an empty name is for the policy to judge"),
    pytest.param(GREETING, NAMED, Command.CONNECT, 7, id="the reserved byte means nothing"),
    pytest.param(GREETING, Target(IPv4Address(0), 0), Command.UDP_ASSOCIATE, 0, id="UDP from anywhere"),
    pytest.param(b"\x05\x02\x00\x02", V4, Command.CONNECT, 0, id="a password may be offered but is not asked for"),
    pytest.param(b"\x05\x03\x02\x01\x00", V4, Command.CONNECT, 0, id="no authentication comes last"),
    pytest.param(b"\x05\xff" + bytes(range(255)), V4, Command.CONNECT, 0, id="every method there is"),
]


@pytest.mark.parametrize(("greeting", "target", "command", "reserved"), SERVED)
@pytest.mark.parametrize("early", [b"", b"\x16\x03\x01 early"], ids=["alone", "with early data"])
@pytest.mark.parametrize("step", [1, 2, 7, 10_000], ids=["byte by byte", "in twos", "in sevens", "in one packet"])
def test_a_request_is_read_however_it_arrives(
    greeting: bytes, target: Target, command: Command, reserved: int, early: bytes, step: int
) -> None:
    data = greeting + _request(target, command, reserved=reserved) + early
    answered, last, beyond = converse([data[at : at + step] for at in range(0, len(data), step)])
    assert isinstance(last, Asked)
    assert (last.command, last.target, beyond, answered) == (command, target, early, GREETED)


def test_the_greeting_is_answered_before_the_request_comes() -> None:
    handshake = Handshake()
    assert handshake.feed(GREETING) == Reading(GREETED)
    assert handshake.feed(_request(NAMED)) == Asked(b"", Command.CONNECT, NAMED, b"")


REFUSED = [
    pytest.param(b"\x05\x00", NO_METHOD, "no method without", id="no method at all"),
    pytest.param(b"\x05\x01\x01", NO_METHOD, "no method without", id="only GSSAPI"),
    pytest.param(b"\x05\x01\x02", NO_METHOD, "no method without", id="only a password"),
    pytest.param(b"\x05\x02\x01\x02", NO_METHOD, "no method without", id="GSSAPI or a password"),
    pytest.param(b"\x05\xff" + b"\xff" * 255, NO_METHOD, "no method without", id="the longest greeting"),
    pytest.param(GREETING + _request(V4, 2), GREETED + _failure(7), "command 2 ", id="BIND"),
    pytest.param(GREETING + _request(V4, 0), GREETED + _failure(7), "command 0 ", id="command 0"),
    pytest.param(GREETING + _request(V4, 4), GREETED + _failure(7), "command 4 ", id="a command of later days"),
    pytest.param(GREETING + b"\x05\x02\x00\x09", GREETED + _failure(7), "command 2 ", id="BIND, address type 9"),
    pytest.param(GREETING + b"\x05\x01\x00\x02", GREETED + _failure(8), "address type 2 ", id="address type 2"),
    pytest.param(GREETING + b"\x05\x01\x00\x00", GREETED + _failure(8), "address type 0 ", id="address type 0"),
    pytest.param(GREETING + b"\x05\x03\x00\xff", GREETED + _failure(8), "address type 255 ", id="UDP to type 255"),
    pytest.param(GREETING + _request(V4, version=4), GREETED + _failure(1), "version 4", id="a request of SOCKS4"),
    pytest.param(GREETING + b"\x01\x01u\x01p", GREETED + _failure(1), "version 1", id="a password nobody asked for"),
    pytest.param(GREETING + b"GET / HTTP/1.1", GREETED + _failure(1), "version 71", id="HTTP after the greeting"),
]


@pytest.mark.parametrize(("data", "answered", "why"), REFUSED)
@pytest.mark.parametrize("step", [1, 3, 10_000], ids=["byte by byte", "in threes", "in one packet"])
def test_a_refusal_ends_the_conversation(data: bytes, answered: bytes, why: str, step: int) -> None:
    told, last, _ = converse([data[at : at + step] for at in range(0, len(data), step)])
    assert isinstance(last, Refused)
    assert told == answered
    assert why in last.why


@pytest.mark.parametrize("first", [0, 1, 4, 6, 0x16, ord("G"), 255])
def test_another_protocol_is_known_by_its_first_byte(first: int) -> None:
    assert Handshake().feed(bytes((first,))) == Foreign(first)
    assert Handshake().feed(bytes((first,)) + GREETING) == Foreign(first)


@pytest.mark.parametrize("size", range(len(GREETING + _request(NAMED))))
def test_what_is_not_complete_is_waited_for(size: int) -> None:
    answered, last, _ = converse([(GREETING + _request(NAMED))[:size]])
    assert isinstance(last, Reading)
    assert answered == (GREETED if size >= len(GREETING) else b"")


@pytest.mark.parametrize(
    ("code", "bound", "wire"),
    [
        pytest.param(ReplyCode.SUCCEEDED, ("127.0.0.1", 443), b"\x05\x00\x00\x01\x7f\x00\x00\x01\x01\xbb", id="IPv4"),
        pytest.param(ReplyCode.SUCCEEDED, ("::1", 1), b"\x05\x00\x00\x04" + bytes(15) + b"\x01\x00\x01", id="IPv6"),
        pytest.param(
            ReplyCode.SUCCEEDED, ("fe80::1%lo", 1), b"\x05\x00\x00\x04\xfe\x80" + bytes(13) + b"\x01\x00\x01", id="zone"
        ),
    ],
)
def test_a_reply_names_what_is_bound(code: ReplyCode, bound: tuple[str, int], wire: bytes) -> None:
    assert reply(code, bound) == wire


@pytest.mark.parametrize("code", ReplyCode)
def test_a_failure_names_no_address(code: ReplyCode) -> None:
    assert reply(code) == _failure(code)


@given(data=st.binary(max_size=600), cuts=st.lists(st.integers(0, 600), max_size=8))
@example(data=GREETING + _request(NAMED) + b"early", cuts=[])
@example(data=b"\x05\xff" + bytes(255) + _request(Target(b"a" * 255, 1)) + b"early", cuts=[257])
def test_the_same_bytes_mean_the_same_however_they_are_cut(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges)]
    whole, parts = converse([data]), converse(pieces)
    assert whole[0] == parts[0]
    assert whole[2] == parts[2]
    match whole[1], parts[1]:
        case Asked() as one, Asked() as other:
            assert (one.command, one.target) == (other.command, other.target)
        case Reading(), Reading():
            pass
        case Refused() as refused, other_refusal:
            assert isinstance(other_refusal, Refused)
            assert refused.why == other_refusal.why
        case one_step, other_step:
            assert one_step == other_step


@given(
    methods=st.binary(max_size=255),
    head=st.binary(min_size=3, max_size=4),
    rest=st.binary(max_size=300),
)
def test_whatever_follows_a_greeting_is_answered_within_the_format(methods: bytes, head: bytes, rest: bytes) -> None:
    """The greeting decides the first answer, and the reply is one of the ten-byte failures, or the request is read."""
    answered, last, beyond = converse([bytes((5, len(methods))) + methods, head + rest])
    if 0 not in methods:
        assert (answered, isinstance(last, Refused)) == (NO_METHOD, True)
        return
    assert answered.startswith(GREETED)
    match last:
        case Asked():
            assert answered == GREETED
            assert head + rest == _request(last.target, last.command, reserved=head[2]) + beyond
        case Refused():
            assert answered[2:] in {_failure(1), _failure(7), _failure(8)}
        case Reading():
            assert answered == GREETED
        case _:
            pytest.fail(f"unexpected {last}")
