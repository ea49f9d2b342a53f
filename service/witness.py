"""What happens, as it happens: requests and analyses come in, counted, timed, traced and with their ids on every log line they go out.

`boundary.py` shows it requests, `judging.py` analyses; `metrics.py` reads what it counted. What others count is not counted here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Final, get_args

from opentelemetry.propagate import extract
from opentelemetry.trace import NoOpTracer, Span, SpanKind, Status, StatusCode, Tracer
from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from starlette.datastructures import Headers
from starlette.types import Scope
from structlog.contextvars import bound_contextvars

from pipelines.errors import AnalysisCancelled, PipelineError
from pipelines.profile import StageTotal
from pipelines.verdict import AnalysisReport, VerdictName

# An answer without a model takes milliseconds; one with `Prefer: wait` as long as the analysis.
ANSWER_BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# A client may send any word as a method and ask for any path, and every new word would be another time series.
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNKNOWN: Final = "other"
CRASHED: Final = "internal-error"


class SeenRequest:
    """One request under way."""

    def __init__(self, scope: Scope, span: Span) -> None:
        self._scope, self._span = scope, span
        self._began = monotonic()
        self.answered_s: float | None = None
        """Seconds until the answer began; None until then."""
        self.status = 0

    def answered(self, status: int) -> None:
        """The answer begins."""
        self.answered_s, self.status = self.elapsed_s, status

    @property
    def elapsed_s(self) -> float:
        """Seconds since it came."""
        return monotonic() - self._began

    @property
    def route(self) -> str:
        """The template of the path that was asked for, or of the folder it lies in; `other` if no route knows it."""
        path = getattr(self._scope.get("route"), "path", None) or self._scope.get("root_path")
        return path if isinstance(path, str) and path else UNKNOWN

    @property
    def method(self) -> str:
        """A method that HTTP knows, or `other`; a WebSocket begins as a GET."""
        method = self._scope.get("method", "GET")
        return method if method in METHODS else UNKNOWN

    @property
    def analysis(self) -> dict[str, str]:
        """The analysis that it is about, as a log line has it; empty if it is about none."""
        given = self._scope.get("path_params", {}).get("analysis_id")
        return {} if given is None else {"analysis": str(given)}

    def finish_span(self) -> None:
        """Write what is known now on its span (OpenTelemetry's names for HTTP servers)."""
        self._span.update_name(f"{self.method} {self.route}")
        self._span.set_attributes({"http.route": self.route, "http.response.status_code": self.status, **self.analysis})
        if self.status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class Witness:
    """Counts and traces for one application.

    `tracer` does nothing until `traces.py` gives it one that sends.
    """

    def __init__(self) -> None:
        self.tracer: Tracer = NoOpTracer()
        self.registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a time series more for each, that the text format has no use for
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.stages = StageTotal()
        """CPU seconds of analyses that have ended."""
        self._requests = Counter(
            "undercurrent_http_requests", "Requests that were answered.", ("method", "route", "status"), registry=self.registry
        )
        self._connections_refused = Counter(
            "undercurrent_connections_refused", "Connections that were one too many.", registry=self.registry
        )
        self._answer_seconds = Histogram(
            "undercurrent_http_answer_seconds",
            "From a request to the beginning of its answer.",
            ("method", "route"),
            buckets=ANSWER_BOUNDS_S,
            registry=self.registry,
        )
        self._analyses = Counter(
            "undercurrent_analyses_ended", "Analyses that this process ended, by verdict.", ("verdict",), registry=self.registry
        )
        for verdict in get_args(VerdictName):  # from zero on, so that the first of a kind is an increase
            self._analyses.labels(verdict)
        self._failures = Counter(
            "undercurrent_analyses_failed", "Analyses that failed here, by problem.", ("problem",), registry=self.registry
        )
        self._failures.labels(CRASHED)
        self._media_seconds = Counter("undercurrent_media_seconds", "Media time that was judged to its end.", registry=self.registry)

    def connection_refused(self) -> None:
        """Somebody who connected was turned away."""
        self._connections_refused.inc()

    @contextmanager
    def request(self, scope: Scope, headers: Headers, request_id: str) -> Iterator[SeenRequest]:
        """See a request; whoever answers it says when the answer begins. Log lines written inside have `request_id` and `trace`."""
        attributes = {"http.request.method": scope.get("method", "GET"), "url.path": scope["path"], "request_id": request_id}
        with (
            self.tracer.start_as_current_span(
                "request", context=extract(headers), kind=SpanKind.SERVER, attributes=attributes, record_exception=False
            ) as span,
            bound_contextvars(request_id=request_id, **_trace(span)),
        ):
            seen = SeenRequest(scope, span)
            try:
                yield seen
            finally:
                if seen.answered_s is not None:
                    self._requests.labels(seen.method, seen.route, str(seen.status)).inc()
                    self._answer_seconds.labels(seen.method, seen.route).observe(seen.answered_s)
                seen.finish_span()

    @contextmanager
    def analysis(self, analysis_id: str) -> Iterator[Callable[[AnalysisReport], None]]:
        """See an analysis where it is judged; its report is handed over once it is safe. Log lines inside have `analysis` and `trace`.

        What is raised inside is counted by the slug of its problem, and raised on; to be stopped is no failure.
        """
        with (
            self.tracer.start_as_current_span("analysis", attributes={"analysis": analysis_id}) as span,
            bound_contextvars(analysis=analysis_id, **_trace(span)),
        ):

            def ended(report: AnalysisReport) -> None:
                self._analyses.labels(report.verdict.verdict).inc()
                self._media_seconds.inc(report.verdict.coverage.duration_s)
                for stage in report.stages:
                    self.stages.add(stage.stage, stage.cpu_s, calls=stage.calls)
                    span.set_attribute(f"cpu_s.{stage.stage}", stage.cpu_s)
                span.set_attribute("verdict", report.verdict.verdict)

            try:
                yield ended
            except AnalysisCancelled:
                raise
            except PipelineError as error:
                self._failures.labels(error.slug).inc()
                raise
            except Exception:  # counted and raised again; who judges says what it was
                self._failures.labels(CRASHED).inc()
                raise


def _trace(span: Span) -> dict[str, str]:
    context = span.get_span_context()
    return {"trace": f"{context.trace_id:032x}"} if context.is_valid else {}
