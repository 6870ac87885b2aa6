"""Clients of mitmweb's JSON API: one that sees everything that somebody with the token can see, one that changes it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
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
        self.address, self.token = found[0].groups()

    def get(self, path: str) -> Response:
        head = f"GET {path} HTTP/1.1\r\nHost: {self.address}\r\nAuthorization: Bearer {self.token}\r\n\r\n"
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


Flow = dict[str, Any]


@dataclass(slots=True)
class Web:
    """A proxy with mitmweb beside it, and a client of mitmweb's own JSON API."""

    proxy: ProxyProcess
    address: str
    token: str
    # Against forgery, a cookie and a field must agree; any value will do.
    cookies: dict[str, str] = field(default_factory=lambda: {"_mitmproxy_xsrf": "0" * 32})

    def change(self, method: str, path: str, body: object = None) -> Response:
        """A call that changes something, and that mitmweb takes for its own."""
        answer = self.call(method, path, body)
        assert answer.status != 403, answer
        return answer

    def call(self, method: str, path: str, body: object = None) -> Response:
        data = b"" if body is None else json.dumps(body).encode()
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields = [f"Authorization: Bearer {self.token}", "Content-Type: application/json", f"Cookie: {cookies}"]
        if token := self.cookies.get("_mitmproxy_xsrf"):
            fields.append(f"X-XSRFToken: {token}")
        head = "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {self.address}", *fields])
        length = f"\r\nContent-Length: {len(data)}\r\n\r\n"
        with Client(self.address) as client:
            answer = client.ask((head + length).encode() + data, method)
        for value in answer.head.all("set-cookie"):
            name, _, content = value.partition(";")[0].partition("=")
            self.cookies[name] = content
        return answer

    def flows(self) -> list[Flow]:
        answer = self.call("GET", "/flows")
        assert answer.status == 200, answer
        return list(answer.json())

    def wait_for(self, count: int, port: int) -> list[Flow]:
        """The flows to an origin's port, once there are that many."""
        found: list[Flow] = []

        def enough() -> bool:
            found[:] = [flow for flow in self.flows() if flow["request"]["port"] == port]
            return len(found) >= count

        self.proxy.until(enough, f"{count} flows")
        return found
