"""The server's side of a SOCKS5 conversation, as bytes in and steps out (RFC 1928 sections 3, 4 and 6).

Only the method without authentication is spoken, and only CONNECT and UDP ASSOCIATE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from .addressing import Target, UnknownAddressType, read_target, write_target

VERSION = 5
_WITHOUT_AUTHENTICATION = 0
_GREETED = bytes((VERSION, _WITHOUT_AUTHENTICATION))
_NO_METHOD = bytes((VERSION, 0xFF))

UNBOUND = ("0.0.0.0", 0)  # noqa: S104 - what a reply names when nothing is bound


class Command(IntEnum):
    """What a client may ask for."""

    CONNECT = 1
    UDP_ASSOCIATE = 3


_COMMANDS = {int(command): command for command in Command}


class ReplyCode(IntEnum):
    """RFC 1928 section 6."""

    SUCCEEDED = 0
    GENERAL_FAILURE = 1
    NOT_ALLOWED = 2
    NETWORK_UNREACHABLE = 3
    HOST_UNREACHABLE = 4
    CONNECTION_REFUSED = 5
    TIMED_OUT = 6
    COMMAND_NOT_SUPPORTED = 7
    ADDRESS_TYPE_NOT_SUPPORTED = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """Send `answer`, which may be empty, and read on."""

    answer: bytes = b""


class Asked(NamedTuple):
    """The request is complete. Send `answer`, which may be empty; the reply is still owed.

    `early` is what the client sent after its request.
    """

    answer: bytes
    command: Command
    target: Target
    early: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """This client cannot be served: send `answer` and end. `why` is for the log and holds nothing that was sent."""

    answer: bytes
    why: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """The client does not speak SOCKS5; `first` is its first byte."""

    first: int


Step = Reading | Asked | Refused | Foreign

_READ_ON, _READ_ON_GREETED = Reading(), Reading(_GREETED)


def reply(code: ReplyCode, bound: tuple[str, int] = UNBOUND) -> bytes:
    """The answer to a request. `bound` is an address and a port of ours, as a socket names them."""
    return _reply_head(code, bound[0]) + bound[1].to_bytes(2)


@lru_cache(maxsize=64)
def _reply_head(code: ReplyCode, host: str) -> bytes:
    return bytes((VERSION, code, 0)) + write_target(ip_address(host), 0)[:-2]


class Handshake:
    """From a client's first byte to its request. It holds less than one message and what came with it."""

    __slots__ = ("_greeted", "_received")

    def __init__(self) -> None:
        self._greeted = False
        self._received = b""

    def feed(self, data: bytes) -> Step:
        """What to do after these bytes. Anything but `Reading` is the last step."""
        data = self._received + data
        if self._greeted:
            return self._read_request(b"", data)
        if not data:
            return _READ_ON
        if data[0] != VERSION:
            return Foreign(data[0])
        end = 2 + data[1] if len(data) > 1 else 2
        if len(data) < end:
            self._received = data
            return _READ_ON
        if _WITHOUT_AUTHENTICATION not in data[2:end]:
            return Refused(_NO_METHOD, "the client offers no method without authentication")
        self._greeted = True
        return self._read_request(_GREETED, data[end:])

    def _read_request(self, answer: bytes, data: bytes) -> Step:
        try:
            read = _request(data)
        except _BadRequest as error:
            return Refused(answer + reply(error.code), str(error))
        if read is None:
            self._received = data
            return _READ_ON_GREETED if answer else _READ_ON
        command, target, end = read
        return Asked(answer, command, target, data[end:])


class _BadRequest(ValueError):
    def __init__(self, code: ReplyCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def _request(data: bytes) -> tuple[Command, Target, int] | None:
    """A request and its length, `None` while it is incomplete. Refused as soon as that is certain."""
    if data and data[0] != VERSION:
        raise _BadRequest(ReplyCode.GENERAL_FAILURE, f"the request has version {data[0]}")
    if len(data) < 2:
        return None
    command = _COMMANDS.get(data[1])
    if command is None:
        raise _BadRequest(ReplyCode.COMMAND_NOT_SUPPORTED, f"command {data[1]} is not supported")
    try:
        read = read_target(data, 3)  # the byte before it is reserved, and means nothing
    except UnknownAddressType as error:
        raise _BadRequest(ReplyCode.ADDRESS_TYPE_NOT_SUPPORTED, f"{error} is not supported") from None
    return None if read is None else (command, *read)
