"""A collector that answers as slowly as it can: the exporting thread does not belong to it."""

from __future__ import annotations

import pytest

from tests.kit.server import RecordingStream
from tests.kit.tcp_origins import TcpOrigin

from .sink_kit import Listening, event, exporting


def drip(stream: RecordingStream) -> None:
    """Answers with a head of which a little more comes again and again, and never the end."""
    stream.sock.sendall(b"HTTP/1.1 200 OK\r\nx: ")
    while not stream.recorder.stopping.wait(0.02):
        stream.sock.sendall(b"x")


def test_an_answer_that_comes_drop_by_drop_has_a_limit(log: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "0.2")
    with (
        TcpOrigin(drip) as collector,
        exporting({"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}"}) as export,
    ):
        export.emit(event(0))
        log.wait_for("fails: it cannot be reached")
