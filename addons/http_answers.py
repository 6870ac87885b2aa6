"""Is this an answer that may be passed on? What no client should have to make sense of is a failed upstream."""

from __future__ import annotations

import re

from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

from .websockets import handshake_problem

_VALUE = re.compile(rb"[\t -~\x80-\xff]*")


def answer_problem(request: http.Request, response: http.Response) -> str | None:
    """What is wrong with an origin's answer, as a text for the client; `None` when it may pass.

    Statuses above 599 are not HTTP's, but origins use them and clients cope (RFC 9110 section 15).
    """
    status = response.status_code
    if status == 101:
        return handshake_problem(request, response)
    if not 200 <= status <= 999:
        return f"the origin answered with status {status:03d}"
    return None if _is_well_formed(response) else "the origin sent no valid HTTP response"


def _is_well_formed(response: http.Response) -> bool:
    try:
        validate_headers(response)
    except ValueError:
        return False
    return all(_VALUE.fullmatch(value) for _, value in response.headers.fields)
