"""Heads of HTTP/1 as bytes, and the words for what is wrong with one."""

from __future__ import annotations

MISMATCH = "Host header does not match request target"
INVALID_HOST = "invalid Host header"
TARGET = "invalid request target"


def head_of(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join([line, *fields, b"", b""])
