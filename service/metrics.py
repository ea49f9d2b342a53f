"""Metrics: what the rooms of a running service have counted comes in, one page in Prometheus' text format goes out. Scraped at `/metrics`.

Nothing is counted here: `witness.py` counts requests and analyses, and engines, streams, children and rows are asked for what they know.
Names, units and types follow Prometheus' conventions; no label has a value that a client can make up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import get_args

from fastapi import APIRouter, Request, Response
from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from pipelines.load import LATENCY_BOUNDS_S
from service import __version__
from service.database import Backlog, now
from service.feed_wire import FeedState
from service.gpu_memory import gpu_memory
from service.problems import documented
from service.renditions import Outcome as RenditionOutcome
from service.rooms import Rooms, ServiceRooms
from service.webhook_deliverer import Outcome
from service.webhook_deliveries import Waiting

router = APIRouter(tags=["health"])

TEXT = {"schema": {"type": "string"}}


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented(
        503, also={200: {"description": "Prometheus' text format.", "content": {"text/plain": TEXT, "application/openmetrics-text": TEXT}}}
    ),
)
async def metrics(request: Request, rooms: Rooms) -> Response:
    """What this process has done and has to do, for Prometheus."""
    page = await Page.of(rooms)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(await asyncio.to_thread(encode, page), headers={"Content-Type": content_type})


@dataclass(frozen=True)
class Page(Collector):
    """Everything that one scrape shows. `backlog` and `waiting` are None while the database does not answer: those lines are left out, the
    others stay."""

    rooms: ServiceRooms
    backlog: Backlog | None
    waiting: Waiting | None

    @classmethod
    async def of(cls, rooms: ServiceRooms) -> Page:
        """Ask what must be asked of others."""
        try:
            return cls(rooms, await rooms.database.backlog(), await rooms.webhooks.deliveries.waiting())
        except SQLAlchemyError:
            return cls(rooms, None, None)

    def collect(self) -> Iterator[Metric]:
        """Every metric, with the values of now."""
        yield from self.rooms.witness.registry.collect()
        yield from self._service()
        yield from self._work()
        yield from self._engines()
        yield from self._streams()
        yield from self._feeds()
        yield from self._webhooks()
        yield from self._children()
        yield from self._renditions()
        yield from self._gpus()

    def _service(self) -> Iterator[Metric]:
        info = self.rooms.engines.model.info
        yield InfoMetricFamily(
            "undercurrent_build",
            "What runs here.",
            {"version": __version__, "weights": info.version, "weights_sha256": info.weights_sha256[:16]},
        )
        yield GaugeMetricFamily("undercurrent_draining", "1 once the service is about to stop.", self.rooms.drain.begun)
        yield GaugeMetricFamily("undercurrent_disk_free_bytes", "Room for media and evidence.", self.rooms.storage.free_bytes)
        yield GaugeMetricFamily(
            "undercurrent_disk_least_bytes", "With less than this free, uploads are refused.", self.rooms.settings.min_free_bytes
        )
        yield GaugeMetricFamily("undercurrent_workers", "Analyses that this process runs at once.", self.rooms.settings.workers)

    def _work(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("undercurrent_database_up", "Whether the database answered.", self.backlog is not None)
        if self.backlog is not None:
            queue = GaugeMetricFamily("undercurrent_analyses", "Analyses that have not ended, of all replicas.", labels=("status",))
            queue.add_metric(["queued"], self.backlog.queued)
            queue.add_metric(["running"], self.backlog.running)
            yield queue
            age_s = _age_s(self.backlog.oldest_queued_at)
            yield GaugeMetricFamily("undercurrent_queue_oldest_age_seconds", "How long the oldest queued analysis has waited.", age_s)
        cpu = CounterMetricFamily("undercurrent_stage_cpu_seconds", "CPU time of the walk's stages.", labels=("work", "stage"))
        calls = CounterMetricFamily("undercurrent_stage_calls", "How often a stage was entered.", labels=("work", "stage"))
        for work, stages in (("file", self.rooms.witness.stages), ("live", self.rooms.engines.spent)):
            for time in stages.times():
                cpu.add_metric([work, time.stage], time.cpu_s)
                calls.add_metric([work, time.stage], time.calls)
        yield from (cpu, calls)

    def _engines(self) -> Iterator[Metric]:
        done = self.rooms.engines.total
        yield CounterMetricFamily("undercurrent_engine_batches", "Batches that went through the nets.", done.batches)
        yield CounterMetricFamily("undercurrent_engine_rows", "Faces in them; over batches, the mean size of a batch.", done.rows)
        yield CounterMetricFamily("undercurrent_engine_failed_rows", "Faces on which the nets failed.", done.failed)
        yield GaugeMetricFamily("undercurrent_engine_largest_batch_rows", "Faces in the largest batch so far.", done.largest)
        yield GaugeMetricFamily("undercurrent_engine_seats", "Live streams that are judged now.", done.seats)
        yield GaugeMetricFamily("undercurrent_engine_memories", "Faces that are remembered now.", done.memories)
        yield CounterMetricFamily("undercurrent_streams_refused", "Live streams for which there was no room.", self.rooms.engines.refused)

    def _streams(self) -> Iterator[Metric]:
        controller = self.rooms.engines.controller
        done = controller.counts
        within = [(str(bound), n) for bound, n in zip(LATENCY_BOUNDS_S, done.within, strict=True)]
        yield HistogramMetricFamily(
            "undercurrent_frame_to_score_seconds",
            "From a live frame's arrival to its score.",
            buckets=[*within, ("+Inf", done.scored)],
            sum_value=done.latency_sum_s,
        )
        yield GaugeMetricFamily(
            "undercurrent_frame_to_score_target_seconds", "What 95 of 100 are to stay under.", controller.targets.latency_s
        )
        yield CounterMetricFamily("undercurrent_frames_missed", "Live frames that a newer one overtook.", done.missed)
        yield CounterMetricFamily("undercurrent_looks_shed", "Looks that live streams did not get for want of time.", done.shed)
        yield GaugeMetricFamily("undercurrent_look_rate_hertz", "Looks a second that every live stream gets now.", controller.hz)
        yield GaugeMetricFamily("undercurrent_look_rate_full_hertz", "What it gets when there is time.", controller.targets.high_hz)

    def _feeds(self) -> Iterator[Metric]:
        states = self.rooms.feeds.states
        feeds = GaugeMetricFamily("undercurrent_feeds", "Cameras that this process watches by itself.", labels=("state",))
        for state in get_args(FeedState):
            feeds.add_metric([state], states[state])
        yield feeds
        yield CounterMetricFamily("undercurrent_alerts", "Alerts of feeds that began here.", self.rooms.feeds.alerts)
        yield CounterMetricFamily(
            "undercurrent_alert_notes_lost",
            "What there was to tell of alerts (begun, ended, evidence) and could not be kept.",
            self.rooms.feeds.alert_notes_lost,
        )

    def _webhooks(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "undercurrent_webhook_attempts", "Attempts of this process to deliver, by what became of the delivery.", labels=("outcome",)
        )
        for outcome in get_args(Outcome):
            attempts.add_metric([outcome], self.rooms.webhooks.counts[outcome])
        yield attempts
        if self.waiting is not None:
            yield GaugeMetricFamily("undercurrent_webhooks_pending", "Deliveries to be made, of all replicas.", self.waiting.count)
            yield GaugeMetricFamily(
                "undercurrent_webhook_oldest_age_seconds", "How long the oldest of them has waited.", _age_s(self.waiting.oldest_at)
            )
            yield GaugeMetricFamily(
                "undercurrent_webhook_overdue_seconds",
                "How long one that is due has not been sent: receivers that fail do not count, this service does.",
                _age_s(self.waiting.due_at),
            )

    def _children(self) -> Iterator[Metric]:
        children = self.rooms.sandbox.counts
        yield GaugeMetricFamily("undercurrent_decode_children", "Decode children that live now.", children.alive)
        yield CounterMetricFamily("undercurrent_decode_children_started", "Decode children that were started.", children.started)
        failed = CounterMetricFamily(
            "undercurrent_decode_children_failed", "Decode children that their media made an end of.", labels=("how",)
        )
        failed.add_metric(["crashed"], children.crashed)
        failed.add_metric(["stalled"], children.stalled)
        yield failed

    def _renditions(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "undercurrent_renditions_under_way", "Renditions that are made now, or wait.", self.rooms.renditions.under_way
        )
        ended = CounterMetricFamily(
            "undercurrent_renditions", "Renditions that were begun here, by what became of them.", labels=("outcome",)
        )
        for outcome in get_args(RenditionOutcome):
            ended.add_metric([outcome], self.rooms.renditions.counts[outcome])
        yield ended

    def _gpus(self) -> Iterator[Metric]:
        if not (cards := gpu_memory(self.rooms.engines.devices)):
            return
        used = GaugeMetricFamily("undercurrent_gpu_memory_used_bytes", "Of the whole card, whoever uses it.", labels=("device",))
        total = GaugeMetricFamily("undercurrent_gpu_memory_bytes", "What the card has.", labels=("device",))
        ours = GaugeMetricFamily("undercurrent_gpu_memory_reserved_bytes", "What this process holds.", labels=("device",))
        for card in cards:
            used.add_metric([str(card.index)], card.used_bytes)
            total.add_metric([str(card.index)], card.total_bytes)
            ours.add_metric([str(card.index)], card.own_bytes)
        yield from (used, total, ours)


def _age_s(since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now() - since).total_seconds())
