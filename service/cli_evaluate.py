"""`undercurrent evaluate`: labelled media in; how well they are told, printed, as JSON and as a page. Mounted by `cli.py`."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from service.cli_output import INTERRUPTED, check_writable, write_file

if TYPE_CHECKING:
    from models.calibration import Calibrator
    from pipelines.evaluation.evaluate import Evaluation, VideoScore
    from pipelines.evaluation.sources import Pictures
    from pipelines.media import Reader
    from pipelines.model import Model
    from pipelines.training.manifest import Record

SWEEPS = ("robustness", "time")


def evaluate_command(
    manifest: Annotated[Path | None, typer.Option(help="JSON or CSV list of labelled media.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Directory with real/ and fake/<method>/.")] = None,
    deepfakebench: Annotated[Path | None, typer.Option(help="A JSON of DeepfakeBench; its pictures lie under --root.")] = None,
    store: Annotated[Path | None, typer.Option(help="Aligned faces: make pseudo-fakes of its held-out people.")] = None,
    root: Annotated[Path, typer.Option(help="Where the pictures of --deepfakebench lie.")] = Path(),
    fps: Annotated[float, typer.Option(help="Pictures a second of --deepfakebench.")] = 25.0,
    label_map: Annotated[list[str], typer.Option(help="NAME=real or NAME=fake, for names of --deepfakebench that we do not know.")] = [],  # noqa: B006  # typer's form
    split: Annotated[
        str | None, typer.Option(help="Which split: of --deepfakebench (default: test), or train or holdout of --manifest.")
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out files of --manifest that are not there, and name them.")
    ] = False,
    pairs: Annotated[int, typer.Option(help="How many pseudo-fakes, with --store.")] = 100,
    tier: Annotated[list[str], typer.Option(help="Which tiers of the manifest to judge.")] = ["validation"],  # noqa: B006
    weights: Annotated[Path | None, typer.Option(help="Another checkpoint than the shipped one.")] = None,
    hz: Annotated[float, typer.Option(help="Looks a second.")] = 12.0,
    wear: Annotated[str | None, typer.Option(help="Judge worn copies of real and fake alike: crf=35,scale=0.5,drop=0.5.")] = None,
    matched: Annotated[int | None, typer.Option(help="The same as --wear crf=N: real and fake through one encoder more.")] = None,
    sweep: Annotated[list[str], typer.Option(help="Also under robustness (every level of wear) or time (every frame rate).")] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="At most so many reals and so many fakes in --sweep robustness.")] = None,
    baselines: Annotated[Path | None, typer.Option(help="Comparison heads of `train baselines`, for --sweep time.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Write a row a video (.csv), as it goes.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what --scores holds already.")] = False,
    report: Annotated[Path | None, typer.Option(help="Write one page with plots (.html).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Judge labelled videos: AUC with its 95 % interval by make, false positives by source, and a control that has learnt nothing."""
    from pipelines.evaluation.evaluate import summarise
    from pipelines.evaluation.sources import read_deepfakebench, shared_identities
    from pipelines.model import load_model
    from pipelines.training.manifest import Split

    console = Console(stderr=True)
    given = [manifest, videos, deepfakebench, store]
    if given.count(None) != len(given) - 1:
        raise typer.BadParameter("give one of --manifest, --videos, --deepfakebench and --store")
    for name in sweep:
        if name not in SWEEPS:
            raise typer.BadParameter(f"expected {' or '.join(SWEEPS)}; got {name}", param_hint="--sweep")
    if resume and scores is None:
        raise typer.BadParameter("--resume goes on from the rows of --scores", param_hint="--resume")
    if matched is not None:
        if wear is not None:
            raise typer.BadParameter("give one of --matched and --wear", param_hint="--matched")
        wear = f"crf={matched}"
    for path in (scores, report):
        if path is not None:
            check_writable(path)
    if store is not None:
        _pseudo_fakes(store, load_model(weights), pairs=pairs, hz=hz, as_json=as_json)
        return
    pictures: dict[str, Pictures] = {}
    if deepfakebench is not None:
        if wear is not None or sweep:
            raise typer.BadParameter("pictures are judged as they are: --wear and --sweep need videos", param_hint="--deepfakebench")
        if fps <= 0:
            raise typer.BadParameter(f"expected a number above 0; got {fps:g}", param_hint="--fps")
        mapped = dict(_pair(one) for one in label_map)
        split = split or "test"
        records, pictures = read_deepfakebench(deepfakebench, root, label_map=mapped, split=split, fps=fps)
        if shared := shared_identities(deepfakebench, split):
            console.print(f"{len(shared)} identities are in another split as well: {', '.join(shared)}", highlight=False)
    else:
        if split is not None and (manifest is None or split not in get_args(Split)):
            raise typer.BadParameter(f"expected {' or '.join(get_args(Split))}, of a manifest; got {split}", param_hint="--split")
        records = _records(manifest, videos, tiers=tier, split=split, skip_missing=skip_missing, console=console)
    model = load_model(weights)
    # What was judged otherwise is no part of the same numbers, so every row says how it was judged.
    how = f"weights {model.info.weights_sha256[:16]}, hz {hz:g}, wear {wear or 'none'}" + (f", fps {fps:g}" if pictures else "")
    done = _Rows(scores, how, records, resume=resume)
    sweeps: list[dict[str, Any]] = []
    with _worn(records, wear, console) as records:
        whole = _judge(records, model, hz=hz, pictures=pictures, done=done, console=console)
        try:
            for name in sweep if whole else ():
                sweeps.append(_swept(name, records, model, hz=hz, baselines=baselines, limit=limit, console=console))
        except KeyboardInterrupt:
            whole = False
            console.print(f"Interrupted: there are {len(sweeps)} of {len(sweep)} sweeps.")
    if not done.found:
        raise typer.Exit(INTERRUPTED)
    found = summarise(done.found)
    plain = found.as_json()
    if report is not None:
        from service.evaluation_report import evaluation_page

        write_file(report, evaluation_page(plain, sweeps).encode())
    if as_json:
        typer.echo(json.dumps({**plain, "sweeps": sweeps}, indent=1))
    else:
        _print(found, sweeps, Console(), model.calibrator)
    if not whole:
        raise typer.Exit(INTERRUPTED)


def _records(
    manifest: Path | None, videos: Path | None, *, tiers: list[str], split: str | None, skip_missing: bool, console: Console
) -> list[Record]:
    from pipelines.errors import PipelineError
    from pipelines.evaluation.sources import check_labelled, videos_in
    from pipelines.training.manifest import present, read_manifest, split_of

    if manifest is not None:
        listed = read_manifest(manifest)
        records = [record for record in listed if record.tier in tiers and record.kind == "video" and split in (None, split_of(record))]
        there = ", ".join(sorted({f"{record.kind} of tier {record.tier}" for record in listed})) or "none"
        wanted = f"at least one labelled video of tier {' or '.join(tiers)}" + ("" if split is None else f" in split {split}")
        if skip_missing:
            records = present(records, skip_missing=True, on_missing=lambda record: console.print(f"missing, left out: {record.file}"))
    else:
        assert videos is not None
        records, there, wanted = videos_in(videos), "none", "real/*.mp4 or fake/<method>/*.mp4"
    if not records:
        raise PipelineError("There is nothing to evaluate.", expected=wanted, got=there)
    check_labelled(records)
    return records


def _pair(text: str) -> tuple[str, str]:
    name, _, label = text.partition("=")
    if label not in ("real", "fake"):
        raise typer.BadParameter(f"expected NAME=real or NAME=fake; got {text}", param_hint="--label-map")
    return name, label


@contextmanager
def _worn(records: list[Record], wear: str | None, console: Console) -> Iterator[list[Record]]:
    """The records, or records of worn copies that live as long as the evaluation."""
    if wear is None:
        yield records
        return
    from pipelines.evaluation.matched import Worn, worn_records

    with tempfile.TemporaryDirectory() as folder:
        yield worn_records(
            records, Worn.parse(wear), Path(folder), on_record=lambda number: console.print(f"worn {number} of {len(records)}")
        )


class _Rows:
    """What is judged so far, and a file of it, if any: a row a video, each there as soon as it is judged."""

    def __init__(self, path: Path | None, how: str, records: list[Record], *, resume: bool) -> None:
        from pipelines.evaluation.evaluate import said_of

        self.path, self._how = path, how
        # Labels are those of today's list: somebody may have put one right since.
        said = {record.file: said_of(record) for record in records}
        rows = _read_scores(path, how) if resume and path is not None else []
        self.found: list[VideoScore] = [replace(row, **said[row.file]) for row in rows if row.file in said]
        if path is not None:
            part = path.with_name(path.name + ".part")
            with part.open("w", newline="") as file:
                csv.writer(file).writerow(_columns())
                csv.writer(file).writerows(self._cells(score) for score in rows)
            part.replace(path)

    def add(self, score: VideoScore) -> None:
        """Keep it."""
        self.found.append(score)
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(self._cells(score))

    def _cells(self, score: VideoScore) -> list[str]:
        return [json.dumps(value) for value in (*asdict(score).values(), self._how)]


def _judge(records: list[Record], model: Model, *, hz: float, pictures: dict[str, Pictures], done: _Rows, console: Console) -> bool:
    """Judge one by one what is not judged yet; False when Ctrl-C ended the judging, which leaves what there is."""
    from pipelines.evaluation.evaluate import judge_video
    from pipelines.frames import read_frames

    known = {score.file for score in done.found}
    try:
        for record in records:
            if record.file in known:
                continue
            read: Reader = pictures[record.file].reader if record.file in pictures else read_frames
            done.add(judge_video(record, model, hz=hz, read=read))
            console.print(f"{len(done.found)}/{len(records)} {record.file}: {done.found[-1].verdict}", highlight=False)
    except KeyboardInterrupt:
        console.print(f"Interrupted: the numbers are over the {len(done.found)} of {len(records)} videos that were judged.")
        return False
    return True


def _columns() -> list[str]:
    from pipelines.evaluation.evaluate import VideoScore

    return [*(field.name for field in fields(VideoScore)), "how"]


def _read_scores(path: Path, how: str) -> list[VideoScore]:
    from pipelines.errors import UnsupportedMedia
    from pipelines.evaluation.evaluate import VideoScore

    if not path.is_file():
        return []
    wanted = f"what `evaluate --scores` wrote, all of it judged with {how}"
    try:
        text = path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a row that a crash cut short is judged again
        names, *rows = list(csv.reader(whole.splitlines())) or [_columns()]
        if names != _columns():
            raise ValueError(f"columns {', '.join(names)}")
        found = []
        for row in rows:
            *values, judged = (json.loads(cell) for cell in row)
            if judged != how:
                raise ValueError(f"a row judged with {judged}")
            cells: list[Any] = [tuple(value) if isinstance(value, list) else value for value in values]
            found.append(VideoScore(*cells))
    except (ValueError, TypeError) as error:
        raise UnsupportedMedia(f"{path} cannot be gone on from.", expected=wanted, got=str(error)) from error
    return found


def _swept(
    name: str, records: list[Record], model: Model, *, hz: float, baselines: Path | None, limit: int | None, console: Console
) -> dict[str, Any]:
    if name == "robustness":
        from pipelines.evaluation.robustness import sweep_robustness

        return sweep_robustness(records, model, hz=hz, limit=limit, on_progress=console.print).as_json()
    from pipelines.evaluation.baselines import load_baselines, scorers
    from pipelines.evaluation.time_sweep import sequences_of, sweep_time

    clips = sequences_of(records, model, on_video=lambda number: console.print(f"embedded {number} of {len(records)}"))
    arms = scorers(model.temporal, model.calibrator, [] if baselines is None else load_baselines(baselines))
    return sweep_time(clips, arms, on_condition=lambda one: console.print(f"timing: {one.name} {one.level}")).as_json()


def _pseudo_fakes(store: Path, model: Model, *, pairs: int, hz: float, as_json: bool) -> None:
    from pipelines.training.evidence import evaluate_pseudo_fakes

    auc, people = evaluate_pseudo_fakes(store, model, pairs=pairs, hz=hz)
    if as_json:
        typer.echo(json.dumps({"pseudo_fakes": pairs, "people": people, "auc": asdict(auc)}))
    else:
        typer.echo(f"{pairs} pseudo-fakes of {people} held-out people: AUC {auc}")


def _print(found: Evaluation, sweeps: list[dict[str, Any]], console: Console, calibrator: Calibrator) -> None:
    if found.note:
        console.print(found.note)
    if found.methods:
        table = Table(
            "make",
            "fakes",
            "AUC [95 %]",
            "own scene",
            "control",
            "called manipulated",
            title=f"{found.videos} videos, {found.unjudged} not judged",
        )
        for make in found.methods:
            row = (make.auc, make.auc_own_scene, make.control_auc, make.accused)
            table.add_row(make.method, str(make.fakes), *map(_shown, row))
        console.print(table)
    sources = Table("source of real video", "tier", "videos", "called manipulated [95 %]")
    for source in found.sources:
        sources.add_row(source.source, source.tier, str(source.reals), _shown(source.accused))
    console.print(sources)
    for name, value in (
        ("AUC, all fakes", found.auc),
        ("AUC, mean over makes", found.macro_auc),
        ("the same, reals of own scene", found.macro_auc_own_scene),
        ("control: minus sharpness", found.control_auc),
        ("control, mean over makes", found.control_macro_auc),
        ("control, own scene", found.control_macro_auc_own_scene),
        ("AUC above the control", found.above_control),
        ("the same, mean over makes", found.macro_above_control),
        ("AUC without sharpness", found.auc_without_sharpness),
        ("fake above its own real", found.pair_accuracy),
        ("true positive rate", found.true_positive_rate),
        ("false positive rate", found.false_positive_rate),
        ("false positives an hour", found.false_positives_per_hour),
        ("TPR at 1 % FPR", found.tpr_at_fpr["0.01"]),
        ("TPR at 5 % FPR", found.tpr_at_fpr["0.05"]),
        ("equal error rate", found.equal_error_rate),
        ("average precision", found.average_precision),
        ("balanced accuracy", found.balanced_accuracy),
        ("coverage", found.coverage),
        ("abstained", found.abstained),
        ("seconds to a decision", found.decision_s),
        ("calibration error", found.calibration_error),
        ("Brier", found.brier),
        ("negative log-likelihood", found.negative_log_likelihood),
        ("risk against coverage", found.area_under_risk_coverage),
    ):
        console.print(f"{name:30} {_shown(value)}", highlight=False)
    console.print(f"{'calibration error by chance':30} {_number(found.calibration_error_by_chance)}", highlight=False)
    console.print(
        f"threshold {calibrator.shipped.track:.2f} log-odds, set for {float(calibrator.target_fpr):.0%} of real people", highlight=False
    )
    for sweep in sweeps:
        table = Table("condition", "level", "arm", "AUC", "drift", title=f"{sweep['sweep']} sweep")
        for row in sweep["rows"]:
            table.add_row(
                row["condition"], row["level"], row.get("arm", ""), *(_number(value) for value in (row["auc"]["value"], row["drift"]))
            )
        console.print(table)


def _shown(estimate: object) -> str:
    text = str(estimate)
    return "not resolvable" if text.startswith("nan") else text


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
