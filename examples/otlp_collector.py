"""Sends audit events to an OpenTelemetry collector. To run by itself it brings the collector along.

pip install 'codex-network-proxy[otel]'
python examples/otlp_collector.py
"""

import asyncio
import os
import queue
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from codex_network_proxy import NetworkProxy

events: "queue.Queue[dict[str, str]]" = queue.Queue()


class Collector(BaseHTTPRequestHandler):
    """Takes `POST /v1/logs` as any collector does."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    events.put({one.key: one.value.string_value for one in record.attributes})
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


async def ask(address: str, host: str) -> str:
    """The status line of the proxy's answer to a CONNECT."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    writer.write(f"CONNECT {host}:443 HTTP/1.1\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    return status.decode().strip()


async def main(endpoint: str) -> None:
    builder = NetworkProxy.builder().config({"enabled": True}).http_addr("127.0.0.1:0").socks_addr("127.0.0.1:0")
    builder.environ({**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint})
    builder.audit_metadata({"conversation.id": "example"})
    async with builder.start() as proxy:
        print(await ask(proxy.http_address, "example.com"))


if __name__ == "__main__":
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        asyncio.run(main(f"http://127.0.0.1:{collector.server_port}"))
        for name, value in events.get(timeout=10).items():
            print(f"{name} = {value}")
        collector.shutdown()
