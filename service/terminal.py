"""The judgement in a terminal: AnalysisResult and Timeline in, Rich renderables out. Printed by `cli.py`; needs 80 columns, no colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pipelines.verdict import REASON_WORDS
from service.report import VERDICT_WORDS
from service.schemas import AnalysisResult, ScoreOut, Timeline, TimelineRow, VerdictOut

STYLES: Final = {"manipulated": "bold red", "no_evidence": "bold green", "inconclusive": "bold yellow", "not_applicable": "bold"}
BLOCKS: Final = " ▁▂▃▄▅▆▇█"
LANE_ROWS: Final = 4
MAX_LANES: Final = 4
PROVENANCE_WORDS: Final = {
    "container": "from the container",
    "container_cfr": "a grid: the container stores a rate, not times",
    "rtp": "from the camera's RTP clock",
    "client": "from the client's clock",
    "arrival": "from when packets arrived",
}
UNJUDGED: Final = "·"


def render(result: AnalysisResult, timeline: Timeline, *, width: int, profile: bool = False) -> Group:
    """Everything about one judgement, `width` columns wide."""
    parts: list[RenderableType] = [_panel(result, width)]
    lanes = _lanes(timeline, max(20, width - 16))
    if lanes:
        parts += [Text("\nprobability of manipulation over media time", style="bold"), *lanes]
    if result.segments:
        parts += [Text("\nmanipulated segments", style="bold"), _segments(result)]
    if result.tracks:
        parts += [Text("\nfaces", style="bold"), _tracks(result)]
    parts += [Text(f"warning: {warning.detail}", style="yellow") for warning in result.warnings]
    if profile:
        parts += [Text("\ntime of the media", style="bold"), _time(result)]
        parts += [Text("\nCPU time", style="bold"), _profile(result)]
    return Group(*parts)


def render_verdict(verdict: VerdictOut, *, width: int) -> Group:
    """The verdict on a stream: what a judgement has that outlives its pictures."""
    parts: list[RenderableType] = [_panel(verdict, width)]
    if verdict.segments:
        parts += [Text("\nmanipulated segments", style="bold"), _segments(verdict)]
    if verdict.tracks:
        parts += [Text("\nfaces", style="bold"), _tracks(verdict)]
    return Group(*parts)


def score_text(score: ScoreOut) -> str:
    """A probability with its interval, or what there is instead."""
    if score.p is None:
        return "not judged"
    return f"{score.p:.0%} ({score.low:.0%} to {score.high:.0%})"


def _panel(result: VerdictOut, width: int) -> Panel:
    coverage = result.coverage
    share = coverage.judged_s / coverage.duration_s if coverage.duration_s > 0 else 0.0
    bar = round(30 * share)
    lines = [
        Text(result.sentence),
        Text(""),
        Text(f"probability  {score_text(result.score)}, threshold {result.threshold:.0%} for {result.target_fpr:.1%} of real people"),
        Text.assemble(
            "judged       ", ("█" * bar, "cyan"), ("░" * (30 - bar), "dim"), f" {coverage.judged_s:.1f} of {coverage.duration_s:.1f} s"
        ),
    ]
    lines += [Text(f"             {reason.duration_s:.1f} s not: {REASON_WORDS[reason.code]}", style="dim") for reason in coverage.reasons]
    title = Text(f" {VERDICT_WORDS[result.verdict]} ", style=STYLES[result.verdict])
    return Panel(Group(*lines), title=title, title_align="left", width=width, padding=(1, 2))


def _lanes(timeline: Timeline, columns: int) -> list[Text]:
    """Block graphs of the longest tracks over one common axis of media time."""
    tracks: dict[int, list[TimelineRow]] = {}
    for row in timeline.rows:
        tracks.setdefault(row.track, []).append(row)
    judged = {track: rows for track, rows in tracks.items() if any(row.p is not None for row in rows)}
    if not judged or len(timeline.frame_pts) < 2:
        return []
    second = timeline.time_base[0] / timeline.time_base[1]
    start, end = timeline.frame_pts[0] * second, timeline.frame_pts[-1] * second
    shown = sorted(judged, key=lambda track: -len(judged[track]))[:MAX_LANES]
    lines = [line for track in sorted(shown) for line in _lane(track, judged[track], start, end, columns, timeline.threshold)]
    lines.append(Text(" " * 10 + _axis(start, end, columns), style="dim"))
    if len(judged) > len(shown):
        lines.append(Text(f"{'':10}{len(judged) - len(shown)} more faces were judged", style="dim"))
    return lines


def _lane(track: int, rows: list[TimelineRow], start: float, end: float, columns: int, threshold: float) -> list[Text]:
    cells: list[list[float]] = [[] for _ in range(columns)]
    seen = [False] * columns
    for row in rows:
        at = min(columns - 1, int((row.t - start) / max(end - start, 1e-9) * columns))
        seen[at] = True
        if row.p is not None:
            cells[at].append(row.p)
    values = _bridged([sum(cell) / len(cell) if cell else None for cell in cells], seen)
    lines = []
    for level in range(LANE_ROWS - 1, -1, -1):
        low, high = level / LANE_ROWS, (level + 1) / LANE_ROWS
        line = Text(f"{f'face {track}' if level == LANE_ROWS - 1 else '':>8} " + ("┤" if low <= threshold < high else "│"))
        for value, was_seen in zip(values, seen, strict=True):
            if value is None:
                line.append(UNJUDGED if level == 0 and was_seen else " ", style="dim")
            else:
                block = BLOCKS[max(0, min(8, math.ceil((value - low) * LANE_ROWS * 8)))]
                line.append("▁" if level == 0 and block == " " else block, style="red" if value >= threshold else "cyan")
        lines.append(line)
    return lines


def _bridged(values: list[float | None], seen: list[bool]) -> list[float | None]:
    """Fill single empty columns between two judged ones: a clip with fewer looks than columns is no comb. Real gaps are wider."""
    filled = list(values)
    holes = 0
    for i, value in enumerate(values):
        if value is None:
            holes += 1
            continue
        if 0 < holes <= 2 and i > holes and not any(seen[i - holes : i]):
            before = values[i - holes - 1]
            filled[i - holes : i] = [before] * holes
        holes = 0
    return filled


def _axis(start: float, end: float, columns: int) -> str:
    """Seconds at five places under the lanes."""
    axis = [" "] * (columns + 8)
    for k in range(5):
        label = f"{start + (end - start) * k / 4:.1f}s"
        at = min(round(columns * k / 4), columns - len(label))
        axis[at : at + len(label)] = label
    return "".join(axis).rstrip()


def _segments(result: VerdictOut) -> Table:
    table = Table("from", "to", "probability", "faces", box=None, pad_edge=False)
    for segment in result.segments:
        table.add_row(
            f"{segment.start.t:.2f} s", f"{segment.end.t:.2f} s", score_text(segment.score), ", ".join(map(str, segment.track_ids))
        )
    return table


def _tracks(result: VerdictOut) -> Table:
    table = Table("face", "from", "to", "looks", "judged", "probability", box=None, pad_edge=False)
    for track in result.tracks:
        score = score_text(track.score) if track.reason is None else f"not judged: {REASON_WORDS[track.reason]}"
        table.add_row(str(track.id), f"{track.first.t:.2f} s", f"{track.last.t:.2f} s", str(track.observations), str(track.judged), score)
    return table


def _time(result: AnalysisResult) -> Table:
    """What the timestamps are worth: who gave them, what the rate really is, and every repair."""
    time, media = result.time, result.media
    table = Table.grid(padding=(0, 2))
    claimed = "none" if time.nominal_fps is None else f"{time.nominal_fps:.3f}"
    measured = "not measured" if time.true_fps is None else f"{time.true_fps:.3f} measured"
    rhythm = f"variable, {time.variability:.0%} of intervals off the median" if time.variable else "steady"
    table.add_row("timestamps", f"{PROVENANCE_WORDS[time.provenance]}; decoded by {media.decode_backend}")
    table.add_row("frames per second", f"{measured}, {claimed} claimed; {rhythm}")
    if time.median_dt_s is not None and time.min_dt_s is not None and time.max_dt_s is not None:
        table.add_row(
            "intervals", f"median {1000 * time.median_dt_s:.1f} ms, from {1000 * time.min_dt_s:.1f} to {1000 * time.max_dt_s:.1f} ms"
        )
    if time.index_error_s is not None:
        table.add_row("frame index / rate", f"would be up to {time.index_error_s:.3f} s wrong")
    longest = max(time.gaps, key=lambda gap: gap.end_s - gap.start_s, default=None)
    where = "" if longest is None else f", the longest from {longest.start_s:.2f} to {longest.end_s:.2f} s"
    table.add_row("gaps", f"{time.gap_count}{where}")
    breaks = time.epochs - 1
    table.add_row(
        "repairs", f"{time.duplicates} repeated, {time.no_pts} missing, {time.backward} backward, {time.wraps} wraps, {breaks} breaks"
    )
    table.add_row("damage", f"{time.corrupt} mended, {time.tainted} tainted, {time.partial} half empty, {time.decode_errors} undecodable")
    return table


def _profile(result: AnalysisResult) -> Table:
    """CPU-ms of each stage for each frame looked at, and the whole walk against decoding alone."""
    frames = max(result.media.frames_analysed, 1)
    table = Table("stage", "CPU-ms per frame judged", "share", box=None, pad_edge=False)
    total = _total(stage.cpu_s for stage in result.stages)
    for stage in result.stages:
        table.add_row(stage.stage, f"{1000 * stage.cpu_s / frames:.2f}", f"{stage.cpu_s / total:.0%}")
    decode = _total(stage.cpu_s for stage in result.stages if stage.stage == "decode")
    table.add_row("all", f"{1000 * total / frames:.2f}", f"{total / decode:.1f} x decoding")
    table.add_row("", f"{1000 * total / max(result.media.frames_decoded, 1):.2f} per frame decoded", "")
    return table


def _total(seconds: Iterable[float]) -> float:
    return max(sum(seconds), 1e-9)
