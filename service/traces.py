"""Traces: an OTLP collector's address comes in, a tracer that sends there goes out; without one nothing is sent and nothing loaded.

Opened by `app.py` for its Witness. The SDK's own variables (`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS` and the rest) hold as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import NoOpTracer, Tracer

from service import __version__
from service.problems import ServiceError


class TracesUnavailable(ServiceError):
    """Traces are asked for, but what sends them is not installed."""

    slug = "traces-unavailable"
    title = "Traces cannot be sent"
    status = 500


@contextmanager
def tracing(endpoint: str | None) -> Iterator[Tracer]:
    """A tracer that sends to `endpoint` (OTLP over HTTP, without `/v1/traces`); what is not sent yet is sent at the end.

    Raises:
        TracesUnavailable: the optional packages are missing.
    """
    if endpoint is None:
        yield NoOpTracer()
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracesUnavailable(
            "UNDERCURRENT_TRACES_ENDPOINT is set.", expected="the packages of `pip install 'undercurrent[traces]'`", got=f"no {error.name}"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": "undercurrent", "service.version": __version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")))
    try:
        yield provider.get_tracer("undercurrent", __version__)
    finally:
        provider.shutdown()
