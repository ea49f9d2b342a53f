"""The command line: arguments in, an exit status out. Thin: `pipelines` judges, `terminal.py`, `report.py` and the plots draw.

Exit status: 0 analysed, 1 --fail-on matched, 2 usage, 3 the input cannot be judged, 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.panel import Panel

from models.errors import Refusal
from service import __version__
from service.cli_device import Device
from service.cli_evaluate import evaluate_command
from service.cli_export import export_command
from service.cli_keys import keys_app
from service.cli_output import INTERRUPTED, check_writable, write_file
from service.cli_signing_key import signing_key_app
from service.cli_train import train_app
from service.cli_verify import verify_command
from service.cli_watch import watch_command

if TYPE_CHECKING:
    from pipelines.analysis import Model, Progress
    from pipelines.media import Reader
    from pipelines.verdict import AnalysisReport
    from service.schemas import AnalysisResult, Timeline

CANNOT_JUDGE = 3

# torch and matplotlib take seconds to import, so each command imports what it needs: `--help` answers at once.
app = typer.Typer(
    name="undercurrent",
    help="Says when a face in a video moves or looks as no camera would film it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train_app, name="train")
app.add_typer(keys_app, name="keys")
app.add_typer(signing_key_app, name="signing-key")
app.command("verify")(verify_command)
app.command("evaluate")(evaluate_command)
app.command("export")(export_command)
app.command("watch")(watch_command)


def main() -> None:
    """Run the command line; every typed refusal ends as one problem on stderr and status 3."""
    try:
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except Refusal as error:
        _show_problem(error)
        raise SystemExit(CANNOT_JUDGE) from None


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    """Says when a face in a video moves or looks as no camera would film it."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def detect(
    source: Annotated[str, typer.Argument(help="A video file, or an http(s) or rtsp(s) URL.", metavar="PATH|URL")],
    as_json: Annotated[bool, typer.Option("--json", help="One result object on stdout and nothing else.")] = False,
    timeline: Annotated[Path | None, typer.Option(help="Write every score (.csv or .json).")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture over media time (.png).")] = None,
    explain: Annotated[Path | None, typer.Option(help="Write a picture of why: the most suspicious face, moment by moment (.png).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write one self-contained page (.html).")] = None,
    pack: Annotated[Path | None, typer.Option(help="Write a signed evidence pack, of a file (.zip).")] = None,
    hz: Annotated[str, typer.Option(help="Looks for each second of media, or `all` for every frame.")] = "12",
    device: Device = "auto",
    weights: Annotated[Path | None, typer.Option(help="Another checkpoint than the shipped one.")] = None,
    triage: Annotated[bool, typer.Option("--triage", help="Key pictures first, closely only where they show a face.")] = False,
    hwaccel: Annotated[Literal["cuda"] | None, typer.Option(help="Decode on this hardware, where there is any.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Show the media's time, and where the CPU time went.")] = False,
    fail_on: Annotated[Literal["manipulated"] | None, typer.Option(help="Exit with 1 on this verdict.")] = None,
) -> None:
    """Judge one video and show the verdict with its evidence."""
    stopped = threading.Event()
    # Before the imports: they take seconds, and a library may swallow a KeyboardInterrupt in the middle of one. `stopped` stays set.
    with _interrupts(stopped) as interrupts:
        from functools import partial

        from pipelines.analysis import analyse, load_model
        from pipelines.frames import read_frames
        from service.evidence import timeline_csv
        from service.media_sandbox import MediaSandbox
        from service.schemas import AnalysisResult
        from service.schemas import timeline as timeline_of

        rate = _rate(hz)
        if timeline is not None and timeline.suffix not in (".csv", ".json"):
            raise typer.BadParameter("--timeline ends in .csv or .json")
        if explain is not None and explain.suffix != ".png":
            raise typer.BadParameter(f"--explain ends in .png; got {explain}")
        if pack is not None and "://" in source:
            raise typer.BadParameter("--pack takes a file: what a URL showed is kept nowhere")
        for path in (timeline, plot, explain, report, pack):
            if path is not None:
                check_writable(path)
        model = load_model(weights, device=device)
        interrupts.gently = True
        with MediaSandbox() as sandbox, _Display() as display:
            # A driver needs files and memory that the decode child may not have.
            read: Reader = partial(read_frames, hwaccel=hwaccel) if hwaccel else sandbox.reader
            found: AnalysisReport = analyse(
                source,
                model,
                hz=rate,
                triaged=triage,
                explain=explain is not None,
                read=read,
                on_progress=display.show,
                cancelled=stopped.is_set,
            )
            credentials = None if "://" in source else sandbox.credentials(Path(source), found.media.container)
        result, rows = AnalysisResult.from_report(found, sha256=_digest(source), credentials=credentials), timeline_of(found)
        if timeline is not None:
            write_file(
                timeline,
                (
                    timeline_csv(row.model_dump() for row in rows.rows) if timeline.suffix == ".csv" else rows.model_dump_json(indent=1)
                ).encode(),
            )
        if plot is not None:
            from service.plot import timeline_png

            write_file(plot, timeline_png(result, rows))
        if explain is not None:
            from service.explanation_plot import explained_png

            write_file(explain, explained_png(found))
        if report is not None:
            from service.report import crop_images, html_report

            write_file(report, html_report(result, rows, crop_images(found), Path(source).name).encode())
        if pack is not None:
            write_file(pack, _pack(Path(source), found, model, result, rows, hz=rate, triaged=triage))
        if as_json:
            typer.echo(result.model_dump_json())
        else:
            from service.terminal import render

            console = Console()
            console.print(render(result, rows, width=min(console.width, 110), profile=profile))
        if fail_on == result.verdict:
            raise typer.Exit(1)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="TCP port.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the database and the media live.")] = None,
) -> None:
    """Run the service and its dashboard."""
    from service.allocator import share_arenas

    share_arenas()
    from service.app import run
    from service.settings import read_settings

    run(read_settings(host=host, port=port, data_dir=data_dir))


@app.command()
def openapi(check: Annotated[bool, typer.Option("--check", help="Only say whether the committed document is current.")] = False) -> None:
    """Write the OpenAPI document of the REST API."""
    from service.app import openapi_document

    _keep_fresh("openapi", openapi_document(), check=check)


@app.command()
def asyncapi(check: Annotated[bool, typer.Option("--check", help="Only say whether the committed document is current.")] = False) -> None:
    """Write the AsyncAPI document of live streams."""
    from service.asyncapi import asyncapi_document

    _keep_fresh("asyncapi", asyncapi_document(), check=check)


def _keep_fresh(name: str, document: dict[str, Any], *, check: bool) -> None:
    path = Path(__file__).with_name(f"{name}.json")
    current = json.dumps(document, indent=2, sort_keys=True) + "\n"
    if not check:
        write_file(path, current.encode())
    elif not path.is_file() or path.read_text() != current:
        typer.echo(f"service/{name}.json is stale: run `undercurrent {name}` and commit it.", err=True)
        raise typer.Exit(1)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False) -> None:
    """Say what this machine can do, what is missing, and what is unsafe in the service that the settings would start.

    Exit with 1 if anything is missing or unsafe.
    """
    from service.doctor import examine
    from service.settings import read_settings

    found = examine(read_settings())
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        Console().print(found.shown())
    if not found.healthy:
        raise typer.Exit(1)


@app.command()
def bench() -> None:
    """Measure the numbers of the README on this machine (needs a checkout)."""
    import runpy

    root = Path(__file__).parent.parent
    if not (root / "tests" / "benchmarks" / "__main__.py").is_file():
        raise typer.BadParameter("the benchmarks are part of a checkout, not of an installation")
    sys.path.insert(0, str(root))
    runpy.run_module("tests.benchmarks", run_name="__main__")


class _Display:
    """Progress on stderr while an analysis runs; silent where nobody looks."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.fields[frames]} frames"),
            BarColumn(),
            TextColumn("{task.fields[media]:.1f} s of media, {task.fields[speed]:.1f}x, {task.fields[faces]} faces"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("judging", total=None, frames=0, media=0.0, speed=0.0, faces=0)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Called after each analysed frame."""
        elapsed = self._bar.tasks[0].elapsed or 0.0
        self._bar.update(
            self._task,
            total=progress.duration_s,
            completed=progress.media_s,
            frames=progress.frames_analysed,
            media=progress.media_s,
            speed=progress.media_s / elapsed if elapsed > 0 else 0.0,
            faces=progress.faces,
        )


class _interrupts:  # noqa: N801  # reads as a verb: with _interrupts(stopped)
    """Ctrl-C stops at once; where `gently` is set it asks the analysis to stop at its next frame, and only a second one stops at once.

    Ends as KeyboardInterrupt.
    """

    def __init__(self, stopped: threading.Event) -> None:
        self._stopped = stopped
        self._before: Callable[..., object] | int | None = None
        self.gently = False

    def __enter__(self) -> _interrupts:
        def ask(_signal: int, _frame: object) -> None:
            again = self._stopped.is_set()
            self._stopped.set()
            if again or not self.gently:
                raise KeyboardInterrupt

        self._before = signal.signal(signal.SIGINT, ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        if self._stopped.is_set():
            raise KeyboardInterrupt from error


def _rate(text: str) -> float | None:
    if text == "all":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1000:
        raise typer.BadParameter(f"--hz takes a number above 0 or `all`; got {text}")
    return rate


def _pack(
    media: Path, found: AnalysisReport, model: Model, result: AnalysisResult, rows: Timeline, *, hz: float | None, triaged: bool
) -> bytes:
    from pipelines.media import Limits
    from service.cli_signing_key import with_signing_keys
    from service.database import now
    from service.evidence_pack import Evidence, listed, pack_files, signed
    from service.pack_container import packed
    from service.pack_wire import MediaRecord
    from service.recipe import config
    from service.report import crop_images

    judged_with = config(found, model, hz=hz, limits=Limits(), triaged=triaged)
    name = media.name.encode("utf-8", "replace").decode()
    sha256, size = result.media.sha256 or "", media.stat().st_size
    record = MediaRecord(sha256=sha256, size_bytes=size, filename=name, source_url=None, file=None, facts=result.media)
    evidence = Evidence(result, rows, crop_images(found), judged_with, record)
    files, signer = pack_files(evidence), with_signing_keys(None, lambda keys: keys.signer())
    return packed({**signed(evidence, listed(files), signer, now()), **files})


def _digest(source: str) -> str | None:
    import hashlib

    if "://" in source:
        return None
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _show_problem(error: Refusal) -> None:
    from service.problems import problem_of

    problem = problem_of(error)
    console = Console(stderr=True)
    if console.is_terminal:
        text = f"{problem.detail}\nexpected: {problem.expected}\ngot: {problem.got}"
        console.print(Panel(text, title=f" {problem.title} ", title_align="left", style="red"))
    else:
        typer.echo(problem.model_dump_json(exclude_none=True), err=True)
