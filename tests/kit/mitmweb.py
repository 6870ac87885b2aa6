"""A reader of mitmweb's JSON API: everything that somebody with the token can see."""

from __future__ import annotations

import re
from typing import Any

from .proxy import ProxyProcess
from .raw import Client
from .wire import Response


class WebReader:
    """Reads from the mitmweb beside `proxy`, whose address and token stand in the ready file or in the output."""

    def __init__(self, proxy: ProxyProcess) -> None:
        self.proxy = proxy
        found: list[re.Match[str]] = []

        def told() -> bool:
            found[:] = re.finditer(r"http://([\d.]+:\d+)/\?token=(\w+)", f"{proxy.web}\n{proxy.output}")
            return bool(found)

        proxy.until(told, "mitmweb's address")
        self.address, self._token = found[0].groups()

    def get(self, path: str) -> Response:
        head = f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\nAuthorization: Bearer {self._token}\r\n\r\n"
        with Client(self.address) as client:
            return client.ask(head.encode())

    def flows(self, count: int = 0) -> list[dict[str, Any]]:
        """Waits until there are `count` flows, and returns all."""
        seen: list[dict[str, Any]] = []

        def enough() -> bool:
            seen[:] = self.get("/flows").json()
            return len(seen) >= count

        self.proxy.until(enough, f"{count} flows")
        return seen

    def everything(self, count: int) -> dict[str, bytes]:
        """What each page says: lists, options, and the content of every flow in every form."""
        pages = [
            "/flows",
            "/flows.json",
            "/options",
            "/options.json",
            "/state",
            "/state.json",
            "/events",
            "/events.json",
        ]
        for flow in self.flows(count):
            for part in ("request", "response", "messages"):
                one = f"/flows/{flow['id']}/{part}"
                pages += [f"{one}/content.data", f"{one}/content/auto", f"{one}/content/auto.json"]
        pages += ["/flows/dump", "/conf.js", "/"]
        return {page: self.get(page).body for page in pages}
