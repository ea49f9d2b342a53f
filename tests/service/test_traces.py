"""Traces: what a real collector receives of a request and of its analysis, and that nobody needs one."""

from __future__ import annotations

import gzip
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from service.settings import Settings
from service.traces import TracesUnavailable, tracing
from tests.ports import free_port
from tests.service.conftest import Serve, upload


@contextmanager
def collector() -> Iterator[tuple[str, list[Span]]]:
    """An OTLP collector over HTTP: its address, and the spans that came."""
    spans: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # http.server names it so
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent = ExportTraceServiceRequest.FromString(body)
            assert self.path == "/v1/traces"
            spans.extend(span for resource in sent.resource_spans for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            running.join()


def attributes(span: Span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def test_a_request_and_its_analysis_reach_the_collector(serve: Serve, settings: Settings, clip: Path) -> None:
    with collector() as (endpoint, spans):
        with serve(settings.model_copy(update={"traces_endpoint": endpoint})) as client:
            client.headers["traceparent"] = f"00-{'ab' * 16}-{'cd' * 8}-01"
            analysis = upload(client, clip, wait_s=60).json()["id"]
            client.get(f"/v1/analyses/{analysis}")
            client.get("/no/such/page")
        named = {span.name: span for span in spans}
    assert set(named) == {"POST /v1/analyses", "GET /v1/analyses/{analysis_id}", "GET other", "analysis"}
    asked = named["GET /v1/analyses/{analysis_id}"]
    assert (asked.trace_id.hex(), asked.parent_span_id.hex()) == ("ab" * 16, "cd" * 8), "the caller's trace goes on"
    assert attributes(asked)["http.response.status_code"] == 200 and attributes(asked)["analysis"] == analysis
    judged = attributes(named["analysis"])
    assert judged["analysis"] == analysis and judged["verdict"] == "no_evidence"
    assert isinstance(judged["cpu_s.encoder"], float) and judged["cpu_s.encoder"] > 0
    assert attributes(named["GET other"])["http.response.status_code"] == 404


def test_a_collector_that_is_gone_delays_nobody(serve: Serve, settings: Settings) -> None:
    with serve(settings.model_copy(update={"traces_endpoint": f"http://127.0.0.1:{free_port()}"})) as client:
        assert client.get("/livez").status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < 15


def test_traces_without_their_packages_are_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(TracesUnavailable, match=r"pip install 'undercurrent\[traces\]'.*opentelemetry"), tracing("http://collector:4318"):
        pytest.fail("it began without them")
