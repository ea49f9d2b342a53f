"""The service: settings come in, an application that owns its database, files, model and workers goes out; `run` serves it."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import Any

import cv2
import structlog
import torch
import uvicorn
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from pipelines.analysis import Model
from pipelines.engine import Engines
from pipelines.load import LoadController, LoadTargets
from pipelines.model import load_models
from pipelines.rendition import RenditionTerms
from service import (
    __version__,
    alerts,
    analyses,
    asyncapi,
    audit,
    dashboard,
    desk,
    direct_uploads,
    evidence,
    feeds,
    health,
    keys,
    me,
    metrics,
    outages,
    policy,
    problems,
    quality,
    review_log,
    reviews,
    sign_in,
    signing_keys,
    stills,
    streams,
    system,
    threshold_proposal,
    thresholds,
    wall,
    webhook_events,
    webhooks,
    websocket,
)
from service.allowance import Allowance
from service.audit_rows import AuditRows
from service.auth import needs
from service.boundary import Boundary
from service.connection import database_url, jobs_url
from service.database import Database
from service.doors import Doors, files_allowed
from service.drain import Drain
from service.feed_keeper import Feeds
from service.feed_rows import FeedRows
from service.feed_store import FeedStore
from service.http_heads import heads_behind
from service.jobs import Jobs
from service.key_store import KeyStore
from service.live_source import Cameras
from service.media_sandbox import MediaSandbox
from service.oidc import Issuer
from service.policy_rows import PolicyRows
from service.problems import ServiceError
from service.quota import Quota
from service.recipe import recipe
from service.renditions import Renditions
from service.review_log_rows import ReviewLog
from service.review_quality import ReviewQuality
from service.review_queue import ReviewQueue
from service.review_rows import ReviewRows
from service.review_thresholds import ReviewThresholds
from service.rooms import ServiceRooms
from service.said_once import said_once
from service.settings import Settings
from service.signing_key_store import SigningKeys, key_file
from service.storage import Storage
from service.streams import Streams
from service.telemetry import configure_logging
from service.threshold_rows import ThresholdRows
from service.timeline_shelf import TimelineShelf
from service.traces import tracing
from service.unread_body import UnreadBody
from service.url_policy import UrlPolicy
from service.webhook_deliverer import Deliverer
from service.webhook_deliveries import Deliveries
from service.webhook_rows import WebhookRows
from service.witness import Witness

SHUTDOWN_GRACE_S = 3
"""How long a download may go on after SIGTERM, and live clients may take to read their end; who only listens or waits is let go at once."""
KEEP_ALIVE_S = 75
"""Whoever keeps idle connections must give them up first, or sends a request into one that is being closed: nginx and most load balancers
keep them for 60 s, httpx for 5."""
DESCRIPTION = """\
Send a video; learn how strongly the motion of each face through real time contradicts what a camera films.

Errors are RFC 9457 problems with what was expected and what came. Times are media seconds beside their exact `pts` and `time_base`.
A probability that was not judged is null, never 0.\
"""

log = structlog.get_logger()


class DataDirectoryInUse(ServiceError):
    """Two processes would take each other's uploads for orphans."""

    slug = "data-directory-in-use"
    title = "Another service uses this data directory"
    status = 500


class UnusableDataDirectory(ServiceError):
    slug = "unusable-data-directory"
    title = "The data directory cannot be used"
    status = 500


class AddressNotFree(ServiceError):
    slug = "address-not-free"
    title = "The service cannot listen there"
    status = 500


def create_app(settings: Settings, model: Model | None = None) -> FastAPI:
    """The application; what it owns is opened when it starts and closed when it stops.

    Args:
        settings: see `read_settings`.
        model: a loaded model to judge with; None loads `settings.weights` at start-up.
    """
    witness = Witness()
    return _application(settings, lambda: open_rooms(settings, model, witness), witness)


@asynccontextmanager
async def open_rooms(settings: Settings, model: Model | None = None, witness: Witness | None = None) -> AsyncIterator[ServiceRooms]:
    """Open everything that a service owns and start its workers; close it all, in reverse, at the end.

    Raises:
        WeightsError, DeviceMissing, DatabaseError, DataDirectoryInUse, UnusableDataDirectory, TracesUnavailable: it cannot start.
        UnusableKey, SigningKeyAway: it could not sign evidence packs.
    """
    witness = witness or Witness()
    async with AsyncExitStack() as stack:
        stack.enter_context(_only_one(settings))
        witness.tracer = stack.enter_context(tracing(settings.traces_endpoint))
        models = [model] if model else await asyncio.to_thread(load_models, settings.weights, device=settings.device)
        database = await Database.open(database_url(settings))
        stack.push_async_callback(database.close)
        database.when_ended(webhook_events.analysis_ended)
        key_store = KeyStore(database)
        if settings.needs_keys and (first := await key_store.first()) is not None:
            # Not into the log, which is kept and sent elsewhere.
            print(f"Admin key, shown this once: {first.secret}", flush=True)
        signing = SigningKeys(database, key_file(settings.signing_key))
        await signing.signer()
        storage = Storage.open(settings)
        policy = UrlPolicy(settings.camera_networks)
        sandbox = stack.enter_context(MediaSandbox(policy))
        renditions = Renditions(storage, database, sandbox, settings.limits, RenditionTerms())
        stack.push_async_callback(renditions.close)
        deliverer = Deliverer(WebhookRows(database), Deliveries(database), policy, settings.replica)
        stack.push_async_callback(deliverer.close)
        jobs = Jobs(settings, database, jobs_url(settings), storage, models[0], sandbox, witness)
        stack.push_async_callback(jobs.close)
        # Warm before anybody can ask.
        engines = await asyncio.to_thread(stack.enter_context, Engines(models, controller=LoadController(_targets(settings))))
        terms, cameras = settings.streams, None
        if sandbox.supported():
            cameras = Cameras(sandbox, limits=settings.limits, give_up_s=terms.outage_s, transport=terms.rtsp_transport)
        live = Streams(settings, engines, sandbox.reader, None if cameras is None else cameras.open)
        stack.push_async_callback(live.drain, 0.0)
        rows = FeedRows(database, alone=settings.database_url is None, tell=webhook_events.alert_changed)
        watched = Feeds(rows, FeedStore.open(settings), settings, engines, cameras)
        stack.push_async_callback(watched.close)
        await jobs.start()
        await watched.start()
        await deliverer.start()
        drain = Drain(settings.drain_notice_s)
        # uvicorn would close WebSockets before their clients have heard the end.
        drain.when_leaving(partial(live.drain, SHUTDOWN_GRACE_S))
        drain.when_leaving(watched.close)
        reviewed = ReviewRows(database, settings.reviews.lease_s)
        yield ServiceRooms(
            settings,
            database,
            key_store,
            Quota(settings.keys),
            Allowance(settings.tenants, database),
            Issuer(settings.oidc) if settings.oidc.issuer is not None else None,
            AuditRows(database),
            signing,
            storage,
            TimelineShelf(storage),
            renditions,
            jobs,
            sandbox,
            engines,
            live,
            watched,
            deliverer,
            witness,
            drain,
            recipe(settings, models[0]),
            reviewed,
            ReviewQueue(database, reviewed),
            ReviewLog(database),
            PolicyRows(database),
            ReviewQuality(database),
            ThresholdRows(database),
            ReviewThresholds(database),
        )


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, the same on every machine; `service/openapi.json` is this, committed."""
    return create_app(Settings.model_construct()).openapi()


def run(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        WeightsError, ServiceError: the service cannot start; nothing is left running.
        KeyboardInterrupt: it was stopped by Ctrl-C, after everything was closed.
    """
    configure_logging()
    # Streams and analyses run side by side already: threads within an operation would wait for each other at its end.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    asyncio.run(_serve(settings))


class Server(uvicorn.Server):
    """Drains before it shuts down; lets listeners go before it waits for connections (an event stream would hold the shutdown to its
    limit), and closes the rooms before it hands the signal on: uvicorn raises it again at the end, and the second SIGTERM kills."""

    def __init__(self, config: uvicorn.Config, rooms: ServiceRooms, stack: AsyncExitStack) -> None:
        super().__init__(config)
        self._rooms = rooms
        self._stack = stack

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._rooms.drain.leave(lambda: self.force_exit)
        self._rooms.jobs.drain()
        await super().shutdown(sockets)
        await self._stack.aclose()


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn is to serve the application."""
    doors: Doors = app.state.doors
    return uvicorn.Config(
        app,
        port=0,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        # Given in any case, so that FORWARDED_ALLOW_IPS of the environment says nothing.
        forwarded_allow_ips=[str(network) for network in settings.trusted_proxies],
        backlog=doors.at_once,
        http=heads_behind(doors),
        **websocket.OPTIONS,
    )


async def _serve(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(settings.host, settings.port))
        witness = Witness()
        rooms = await stack.enter_async_context(open_rooms(settings, witness=witness))
        app = _application(settings, lambda: nullcontext(rooms), witness)
        config = server_config(app, settings)
        # What was imported and loaded stays: over half a million objects. Looking through them for garbage held every request up, for 1.2 s
        # on a busy machine.
        gc.collect()
        gc.freeze()
        host, port = listener.getsockname()[:2]
        log.info("serving", url=f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/", data_dir=str(settings.data_dir))
        await Server(config, rooms, stack).serve(sockets=[listener])


def _application(settings: Settings, rooms: Callable[[], AbstractAsyncContextManager[ServiceRooms]], witness: Witness) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with rooms() as opened:
            app.state.rooms = opened
            yield

    app = FastAPI(
        title="Undercurrent",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        webhooks=webhook_events.described,
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=_operation_id,
        responses=problems.documented(400, 401, 403, 429, 500, 503),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.doors = Doors(settings.max_connections, files_allowed(), witness.connection_refused)
    problems.install(app)
    outages.install(app)
    app.add_middleware(Boundary, settings=settings, witness=witness)
    app.add_middleware(UnreadBody, settings=settings)
    once = Depends(said_once)
    for open_to_all in (health.router, metrics.router, asyncapi.router, signing_keys.router):
        app.include_router(open_to_all, dependencies=[once])
    for own in (sign_in.router, me.router):
        app.include_router(own, dependencies=[once])
    for router in (analyses.router, direct_uploads.router, evidence.router):
        app.include_router(router, dependencies=[Depends(needs("analyses")), once])
    for router in (audit.router, keys.router, system.router):
        app.include_router(router, dependencies=[Depends(needs("admin")), once])
    for router in (reviews.router, desk.router, review_log.router, policy.router, thresholds.router):
        app.include_router(router, dependencies=[Depends(needs("reviews")), once])
    for router in (quality.router, threshold_proposal.router):
        app.include_router(router, dependencies=[Depends(needs("reviews:lead")), once])
    for router in (wall.router, feeds.router, stills.router, alerts.router, alerts.newest):
        app.include_router(router, dependencies=[Depends(needs("feeds")), once])
    app.include_router(streams.router, dependencies=[Depends(needs("streams")), once])
    app.include_router(webhooks.router, dependencies=[Depends(needs("webhooks")), once])
    dashboard.install(app)
    return app


def _targets(settings: Settings) -> LoadTargets:
    terms = settings.streams
    return LoadTargets(latency_s=terms.latency_s, low_hz=min(terms.low_hz, settings.hz), high_hz=settings.hz)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        # What is accepted inherits it. asyncio sets it for listeners of its own alone, and without it the second part of every answer waits
        # for the client to acknowledge the first, which Linux puts off for 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise AddressNotFree(
            f"Cannot listen on {host} port {port}.",
            expected="a free port of this machine (--port, UNDERCURRENT_PORT)",
            got=error.strerror or str(error),
        ) from error


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Hold the data directory for this process, or its replica's name in one that replicas of a PostgreSQL share; the lock goes with the
    process, however it ends."""
    directory = settings.data_dir
    name = "lock" if settings.database_url is None else f"{settings.replica}.lock"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory / name).open("wb")
    except OSError as error:
        raise UnusableDataDirectory(
            f"{directory} cannot be written.", expected="a directory of yours (UNDERCURRENT_DATA_DIR)", got=error.strerror or str(error)
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataDirectoryInUse(
                f"{directory} is in use.",
                expected="one service for each data directory (UNDERCURRENT_DATA_DIR), or for each replica's name (UNDERCURRENT_REPLICA)",
                got="another running one",
            ) from error
        yield
