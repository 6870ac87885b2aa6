"""For stock mitmdump: allowlist, method check and header as in the configuration of our proxy, and streaming."""

from __future__ import annotations

import os
from pathlib import Path

from mitmproxy import http

ALLOWED = frozenset(Path(os.environ["BENCH_ALLOWED"]).read_text().split())
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})
AUTHORIZATION = "Bearer " + os.environ["BENCH_TOKEN"]


def _blocked(flow: http.HTTPFlow) -> bool:
    if flow.request.host in ALLOWED and flow.request.method in METHODS:
        return False
    flow.response = http.Response.make(403, b"blocked\n", {"content-type": "text/plain"})
    return True


def http_connect(flow: http.HTTPFlow) -> None:
    if flow.request.host not in ALLOWED:
        flow.response = http.Response.make(403, b"blocked\n", {"content-type": "text/plain"})


def requestheaders(flow: http.HTTPFlow) -> None:
    if not _blocked(flow):
        flow.request.stream = True
        if flow.request.scheme == "https":
            flow.request.headers["authorization"] = AUTHORIZATION


def responseheaders(flow: http.HTTPFlow) -> None:
    if flow.response:
        flow.response.stream = True
