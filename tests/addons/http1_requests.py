"""Requests of HTTP/1 as bytes."""

from __future__ import annotations

from .engine_kit import Answer

HOST = b"host: hooked.test:%d\r\n"


def text(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.body.decode()


def at(port: int, host: bytes = b"allowed.test") -> bytes:
    return b"%b:%d" % (host, port)


def get(port: int, path: bytes = b"/", host: bytes = b"allowed.test", *fields: bytes) -> bytes:
    target = at(port, host)
    head = b"\r\n".join([b"GET http://%b%b HTTP/1.1" % (target, path), b"host: " + target, *fields, b"", b""])
    return head


def post(port: int, *fields: bytes, host: bytes = b"allowed.test", body: bytes = b"") -> bytes:
    return get(port, b"/", host, *fields).replace(b"GET", b"POST", 1) + body
