"""`undercurrent train sheet | play | check | manifest`: what training learns from, made visible. Mounted by `cli_train.py`.

In `pipelines/training`, `contact_sheet.py` and `play_clip.py` draw, `manifest_checks.py` checks and `own_footage.py` lists; here are only
options, files and tables.
"""

from __future__ import annotations

import base64
import difflib
import html
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer
from rich.console import Console
from rich.table import Table

from service.cli_output import Steps, check_writable, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.training.contact_sheet import Sheet
    from pipelines.training.example import Example
    from pipelines.training.manifest_checks import ManifestReport
    from pipelines.training.portraits import Portrait
    from pipelines.training.pseudo_fakes import Kind

Store = Annotated[Path, typer.Option(help="Directory of aligned faces.")]
SplitName = Annotated[Literal["train", "holdout"] | None, typer.Option(help="Only people of this side.")]
SIZE_LIMIT_ROWS = 400


def sheet(
    store: Store,
    out: Annotated[Path, typer.Option(help="The picture to write (.png).")],
    split: SplitName = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind of fake; may be given several times.")] = None,
    family: Annotated[list[str] | None, typer.Option(help="Only this family of masks; may be given several times.")] = None,
    rows: Annotated[int, typer.Option(help="How many fakes.", min=1, max=SIZE_LIMIT_ROWS)] = 28,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    worn: Annotated[bool, typer.Option("--worn", help="Both sides after the same wear, too: what the network sees.")] = False,
) -> None:
    """Draw pseudo-fakes beside their originals: real, fake, mask, amplified difference."""
    _suffix(out, "--out", ".png")
    kinds, families = _kinds(kind or []), _families(family or [])

    import cv2

    from pipelines.training.contact_sheet import draw_contact_sheet, draw_sheet

    check_writable(out)
    portraits = _portraits(store, split)
    with Steps("drawing", rows) as steps:
        made = draw_sheet(portraits, rows=rows, seed=seed, kinds=kinds, families=families, on_row=steps.reached)
        picture = draw_contact_sheet(made, worn=worn)
    write_file(out, cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
    console = Console()
    _print_counts(made, console)
    for note in made.notes:
        console.print(note, markup=False, highlight=False)
    console.print(f"{len(made.examples)} fakes in {out}", markup=False, highlight=False)


def play(
    store: Store,
    out: Annotated[Path, typer.Option(help="The clip to write (.mp4 or .webm).")],
    kind: Annotated[str | None, typer.Option(help="Which kind of fake; drawn as in training where none is named.")] = None,
    seed: Annotated[int, typer.Option(help="Random seed.", min=0)] = 0,
    identity: Annotated[str | None, typer.Option(help="Only this person.", metavar="NAME")] = None,
    split: SplitName = None,
    slow: Annotated[float, typer.Option(help="How many times slower than life.", min=0.1, max=100.0)] = 1.0,
    page: Annotated[Path | None, typer.Option("--html", help="Also write a page that loops it and steps frame by frame (.html).")] = None,
) -> None:
    """Write one pseudo-fake clip, side by side with its original, at the true times of the source."""
    _suffix(out, "--out", ".mp4", ".webm")
    if page is not None:
        _suffix(page, "--html", ".html")
    kinds = _kinds([kind] if kind is not None else [])

    import numpy as np

    from pipelines.training.example import draw_example
    from pipelines.training.play_clip import encode_clip, side_by_side

    for path in (out, page):
        if path is not None:
            check_writable(path)
    portraits = _portraits(store, split)
    donors = portraits
    if identity is not None:
        portraits = [one for one in portraits if one.identity == identity]
        if not portraits:
            raise _no_such_person(identity, donors)
    example = draw_example(
        portraits, np.random.default_rng(seed), kind=kinds[0] if kinds else None, donors=donors, moving=True, partial=True
    )
    with Steps("encoding", len(example.clip.t)) as steps:
        content, times = encode_clip(steps.each(side_by_side(example, slow=slow)), example.clip.t, out.suffix, slow=slow)
    write_file(out, content)
    if page is not None:
        write_file(page, _page(example, content, times, out.suffix).encode())
    t, tampered = example.clip.t, int(example.made.frame_labels.sum())
    Console().print(
        f"{example.made.kind}, {example.made.family}, of {example.identity}: {len(t)} frames over {t[-1] - t[0]:.3f} s, "
        f"{tampered} tampered with, {example.change:.1f} grey levels; in {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def check(
    manifest: Annotated[Path, typer.Option(help="The manifest to check (.json or .csv).")],
    hashes: Annotated[bool, typer.Option("--hashes", help="Read every file and compare its sha256.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """List by name whatever is wrong with a manifest; exit with 1 if anything is."""
    from dataclasses import asdict

    from pipelines.training.manifest_checks import check_manifest

    with Steps("hashing", None) as steps:
        report = check_manifest(manifest, hashes=hashes, on_file=lambda number, _record: steps.reached(number))
    if as_json:
        typer.echo(json.dumps({"ok": report.ok, **asdict(report)}))
    else:
        _print_report(report, Console())
    if not report.ok:
        raise typer.Exit(1)


def manifest(
    folder: Annotated[Path, typer.Argument(help="Your own real footage: videos and pictures, nothing manipulated.")],
    out: Annotated[Path, typer.Option(help="The manifest to write (.json).")],
    identity_from: Annotated[
        Literal["parent", "stem"], typer.Option(help="What names the person: the folder of a file, or the file itself.")
    ] = "parent",
) -> None:
    """Make a manifest of your own real footage, to adapt the weights to it."""
    _suffix(out, "--out", ".json")
    from pipelines.training.own_footage import manifest_of

    check_writable(out)
    with Steps("opening", None) as steps:
        made = manifest_of(folder, out, identity_from=identity_from, on_file=lambda _path: steps.one_more())
    write_file(out, (json.dumps(list(made.rows), indent=1, ensure_ascii=False) + "\n").encode())
    console = Console()
    for name, reason in made.skipped:
        console.print(f"skipped {name}: {reason}", markup=False, highlight=False, soft_wrap=True)
    for note in made.notes:
        console.print(note, markup=False, highlight=False)
    videos = sum(row["kind"] == "video" for row in made.rows)
    console.print(
        f"{videos} videos and {len(made.rows) - videos} pictures of {len(made.people)} people, {len(made.skipped)} files skipped; in {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _portraits(store: Path, split: Literal["train", "holdout"] | None) -> list[Portrait]:
    from pipelines.errors import NothingToShow
    from pipelines.training.portraits import load_portraits

    portraits = load_portraits(store, split=split)
    if not portraits:
        side = f" on the side {split}" if split else ""
        got = "no such folder" if not store.is_dir() else "no track"
        raise NothingToShow(f"The store {store} holds no face{side}.", expected="tracks, as `undercurrent train crops` cuts them", got=got)
    return portraits


def _kinds(names: Sequence[str]) -> list[Kind]:
    from pipelines.training.pseudo_fakes import KINDS

    for name in names:
        if name not in KINDS:
            raise typer.BadParameter(f"no such kind: expected one of {', '.join(KINDS)}; got {name}", param_hint="--kind")
    return [kind for kind in KINDS if kind in names]


def _families(names: Sequence[str]) -> list[str]:
    from pipelines.training.masks import FAMILIES

    for name in names:
        if name not in FAMILIES:
            raise typer.BadParameter(f"no such family: expected one of {', '.join(FAMILIES)}; got {name}", param_hint="--family")
    return [family for family in FAMILIES if family in names]


def _suffix(path: Path, option: str, *allowed: str) -> None:
    if path.suffix not in allowed:
        raise typer.BadParameter(f"{option} ends in {' or '.join(allowed)}; got {path}", param_hint=option)


def _no_such_person(identity: str, portraits: Sequence[Portrait]) -> Exception:
    from pipelines.errors import NothingToShow

    people = sorted({one.identity for one in portraits})
    close = difflib.get_close_matches(identity, people, n=3, cutoff=0.4) or people[:3]
    return NothingToShow(
        f"Nobody in the store is called {identity}.", expected=f"one of {len(people)} people, such as {', '.join(close)}", got=identity
    )


def _print_counts(made: Sheet, console: Console) -> None:
    by: Literal["kind", "family"]
    for by in ("kind", "family"):
        table = Table(by, "draws", "shown", "mean change, grey levels", "too faint", "least of a mask on the face")
        for row in made.counts(by):
            on_face = f"{row.on_face:.0%}" if row.shown else "-"
            table.add_row(row.name, str(row.draws), str(row.shown), f"{row.change:.1f}", str(row.faint), on_face)
        console.print(table)


def _print_report(report: ManifestReport, console: Console) -> None:
    from pipelines.training.manifest_checks import FaultKind

    table = Table("tier", "label", "videos", "pictures", "people", "train", "holdout", title=f"{report.records} records")
    for row in report.tallies:
        numbers = (row.videos, row.images, row.people, row.train_people, row.holdout_people)
        table.add_row(row.tier, row.label, *map(str, numbers))
    console.print(table)
    for kind in get_args(FaultKind):
        if found := report.of(kind):
            console.print(f"{kind}: {len(found)}", style="bold", highlight=False)
            for fault in found:
                console.print(f"  {fault.name}: {fault.detail}", markup=False, highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    console.print("Nothing is wrong." if report.ok else f"{len(report.faults)} thing(s) are wrong.", highlight=False)


def _page(example: Example, content: bytes, times: Sequence[float], suffix: str) -> str:
    """One page with the clip inside it and its true times beside it: no file beside, no network."""
    facts = {
        "written": list(times),
        "t": [float(value) for value in example.clip.t],
        "tampered": [bool(value) for value in example.made.frame_labels],
    }
    kind = "video/mp4" if suffix == ".mp4" else "video/webm"
    return _PAGE.format(
        title=html.escape(f"{example.made.kind}, {example.made.family}: {example.identity}"),
        source=f"data:{kind};base64,{base64.b64encode(content).decode()}",
        facts=json.dumps(facts),
    )


# Seeking to the middle between two stamps: exactly on one, players disagree which picture that is.
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #22313f; margin: 1.5rem auto; max-width: 1536px; padding: 0 1rem }}
h1 {{ font-size: 1.2rem }} video {{ width: 100%; background: #e3e8ec }}
button, select {{ font: inherit; padding: .3rem .8rem }} output {{ margin-left: 1rem; font-variant-numeric: tabular-nums }}
output[data-tampered] {{ color: #b34a00; font-weight: 600 }}
</style>
<h1>{title}</h1>
<video id="clip" loop muted autoplay playsinline src="{source}"></video>
<p><button id="back" aria-label="one frame back">&#9664; frame</button> <button id="run">play / pause</button>
<button id="on" aria-label="one frame on">frame &#9654;</button>
<label>speed <select id="speed"><option>1</option><option>0.5</option><option>0.25</option><option>0.1</option></select></label>
<output id="where"></output></p>
<p>Arrow keys step, space plays. The pictures stand at the times of the source, however uneven they are.</p>
<script type="application/json" id="facts">{facts}</script>
<script>
const facts = JSON.parse(document.getElementById("facts").textContent)
const clip = document.getElementById("clip"), where = document.getElementById("where"), n = facts.written.length
const middle = i => i + 1 < n ? (facts.written[i] + facts.written[i + 1]) / 2 : facts.written[i] + 0.001
const at = () => {{ let i = 0; while (i + 1 < n && facts.written[i + 1] <= clip.currentTime) i++; return i }}
function say() {{
  const i = at(), state = facts.tampered[i] ? "TAMPERED" : "untouched"
  const dt = i ? `, dt ${{(1000 * (facts.t[i] - facts.t[i - 1])).toFixed(1)}} ms` : ""
  where.textContent = `frame ${{i + 1}} of ${{n}}, t = ${{facts.t[i].toFixed(3)}} s${{dt}}, ${{state}}`
  where.toggleAttribute("data-tampered", facts.tampered[i])
}}
function step(by) {{ clip.pause(); clip.currentTime = middle((at() + by + n) % n) }}
function run() {{ clip.paused ? clip.play() : clip.pause() }}
document.getElementById("back").onclick = () => step(-1)
document.getElementById("on").onclick = () => step(1)
document.getElementById("run").onclick = run
document.getElementById("speed").onchange = event => clip.playbackRate = Number(event.target.value)
document.addEventListener("keydown", event => {{
  if (event.key === "ArrowLeft") step(-1)
  else if (event.key === "ArrowRight") step(1)
  else if (event.key === " " && event.target === document.body) {{ event.preventDefault(); run() }}
}})
clip.addEventListener("seeked", say)
clip.addEventListener("timeupdate", say)
if (clip.requestVideoFrameCallback) {{
  const tick = () => {{ say(); clip.requestVideoFrameCallback(tick) }}
  clip.requestVideoFrameCallback(tick)
}}
</script>
</html>
"""
