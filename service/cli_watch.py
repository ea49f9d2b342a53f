"""`undercurrent watch`: a URL comes in, live scores go to the terminal or, one event a line, to stdout; ends with the verdict.

The stream is a Session as every client of `WS /v1/stream` has one, so the events are those of the wire. Registered by `cli.py`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console
from rich.live import Live

from service.cli_device import Device

if TYPE_CHECKING:
    from models.errors import Refusal
    from pipelines.model import Model
    from service.live_source import Cameras
    from service.stream_session import Session
    from service.stream_wire import End, ServerMessage

REFRESH_S: Final = 0.125


def watch_command(
    url: Annotated[str, typer.Argument(help="An rtsp(s) or http(s) URL of a camera or a stream.", metavar="URL")],
    as_json: Annotated[bool, typer.Option("--json", help="One event a line on stdout and nothing else, as on the WebSocket.")] = False,
    hz: Annotated[float, typer.Option(min=0.5, max=120, help="Looks a second at most.")] = 12.0,
    device: Device = "auto",
    weights: Annotated[Path | None, typer.Option(help="Another checkpoint than the shipped one.")] = None,
    silence: Annotated[float, typer.Option(min=0.5, help="Seconds without a picture after which to connect again.")] = 4.0,
    give_up: Annotated[float, typer.Option(min=1, help="Seconds without a picture after which to end.")] = 60.0,
    rtsp_transport: Annotated[
        Literal["tcp", "udp"], typer.Option(help="How an rtsp:// camera is to send; over udp pictures may be lost.")
    ] = "tcp",
    fail_on: Annotated[Literal["manipulated"] | None, typer.Option(help="Exit with 1 on this verdict.")] = None,
) -> None:
    """Watch a camera: live scores until Ctrl-C, then the verdict on the last ten minutes."""
    from pipelines.analysis import load_model
    from service.live_source import Cameras
    from service.media_sandbox import MediaSandbox
    from service.telemetry import configure_logging
    from service.url_policy import shown

    configure_logging(logging.ERROR)  # the rest is in the events

    with MediaSandbox() as sandbox:
        cameras = Cameras(sandbox, silent_s=silence, give_up_s=give_up, transport=rtsp_transport)
        cameras.open(url, lambda: hz)  # what may not be opened is refused before the model is loaded
        model = load_model(weights, device=device)
        end, error = asyncio.run(_watched(url, cameras, model, hz, _Json() if as_json else _Screen(shown(url))))
    if not as_json and end.verdict is not None and end.totals.looked_at:
        from service.terminal import render_verdict

        console = Console()
        console.print(render_verdict(end.verdict, width=min(console.width, 110)))
    if error is not None:
        raise error
    if not end.totals.looked_at:
        raise KeyboardInterrupt
    if end.verdict is not None and end.verdict.verdict == fail_on:
        raise typer.Exit(1)


async def _watched(url: str, cameras: Cameras, model: Model, hz: float, out: _Json | _Screen) -> tuple[End, Refusal | None]:
    """Tell of the stream until it ends, by itself or by Ctrl-C; a second one ends it without a verdict, as KeyboardInterrupt."""
    from pipelines.engine import Engines
    from pipelines.live import LiveStream
    from pipelines.load import LoadController, LoadTargets
    from pipelines.media import Limits
    from service.settings import StreamTerms
    from service.stream_session import Session

    limits = Limits()
    with Engines([model], controller=LoadController(LoadTargets(low_hz=min(4.0, hz), high_hz=hz))) as engines, out:
        live = LiveStream(engines)
        session = Session("pull", "live", live, StreamTerms(), hz=hz, media_s=limits.max_duration_s, pixels=limits.max_pixels)
        session.attach()
        life = asyncio.create_task(session.begin(cameras.open(url, lambda: min(hz, live.hz)), None))
        telling = asyncio.create_task(_tell(session, out))
        asked = asyncio.Event()

        def interrupt() -> None:
            if asked.is_set():
                telling.cancel()
            asked.set()
            session.stop()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, interrupt)
        try:
            return await telling, session.error
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            session.abort("stopped", None)
            await life


async def _tell(session: Session, out: _Json | _Screen) -> End:
    """Hand every message on, until the last, which is returned."""
    from service.stream_wire import End, server_message

    while True:
        session.news.clear()
        while (message := session.next_message()) is not None:
            event = server_message.validate_json(message)
            out.show(message, event)
            if isinstance(event, End):
                return event
        out.refresh()
        with suppress(TimeoutError):
            await asyncio.wait_for(session.news.wait(), REFRESH_S)


class _Json:
    """One event a line."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, message: str, _event: ServerMessage) -> None:
        typer.echo(message)

    def refresh(self) -> None: ...


class _Screen:
    """What is known, drawn anew all the time; where nobody looks, only what happens, a line each."""

    def __init__(self, shown: str) -> None:
        from service.watch_view import WatchView

        self._view = WatchView(shown)
        self._console = Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._console.is_terminal else None
        self._due_s = 0.0

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, _message: str, event: ServerMessage) -> None:
        for line in self._view.take(event):
            if self._live is None:
                self._console.print(line)

    def refresh(self) -> None:
        if self._live is not None and (now := time.monotonic()) >= self._due_s:
            self._due_s = now + REFRESH_S
            self._live.update(self._view.render(), refresh=True)
