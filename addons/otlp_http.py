"""HTTP as an export needs it: of an answer only the status counts, and it has to come in time, drop by drop or not."""

from __future__ import annotations

import io
import socket
import time
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter


class StatusOnly(HTTPAdapter):
    """Reads no body but a short one, for its connection to be used again: the rest could be endless, or a bomb."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        pools = self.poolmanager.pool_classes_by_scheme
        self.poolmanager.pool_classes_by_scheme = {scheme: _in_time(pool) for scheme, pool in pools.items()}

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        body, response.raw = response.raw, io.BytesIO()
        length = response.headers.get("content-length", "")
        try:
            if length.isdecimal() and len(length) <= 3:
                body.read(decode_content=False)
            else:
                body.close()
        except Exception:
            # Whatever was wrong with it: the status is known.
            body.close()
        body.release_conn()
        return response


class _UntilDeadline(io.RawIOBase):
    """What is read from a socket while `seconds` last, which are for all of it; then raises `TimeoutError`."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, seconds: float) -> None:
        super().__init__()
        self._raw = raw
        self._sock = sock
        self._due = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        left = self._due - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _InTime(HTTPResponse):
    """The socket's time-out, which is for one read, is for the whole answer."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        if (seconds := sock.gettimeout()) is not None:
            self.fp = io.BufferedReader(_UntilDeadline(self.fp.detach(), sock, seconds))


def _in_time(pool: Any) -> Any:
    connection = type("InTime", (pool.ConnectionCls,), {"response_class": _InTime})
    return type("InTimePool", (pool,), {"ConnectionCls": connection})
