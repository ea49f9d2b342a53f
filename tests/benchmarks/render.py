"""The benchmarks' tables: the rows of results.json in, tables for the terminal and for the README (between its markers) out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table as RichTable

from tests.benchmarks.bench_xor import PUBLISHED

Rows = Sequence[dict[str, Any]]
IN_README = (
    "walk",
    "peers",
    "timeline",
    "decode",
    "edge",
    "live",
    "latency",
    "faults",
    "soak",
    "crash",
    "takeover",
    "load",
    "footprint",
    "scroll",
    "attention",
    "length",
    "day",
    "liquid",
    "seconds",
    "xor",
)
IN_MODEL_CARD = ("card", "ablation")
TITLES = {
    "genuine": "Genuine deepfakes (tier `validation`), video level",
    "makes": "Each make",
    "reals": "Real video of people that nothing was trained on: held-out `open` and `published`, and `study`",
    "pseudo": "AUC on pseudo-fakes of people that nothing was trained on, clip level",
    "calibration": "Calibration",
    "shortcuts": "What the score must not follow",
}
READERS = {
    "ours": "read_frames, absolute",
    "ours_relative": "read_frames",
    "index_average_rate": "index / average_rate",
    "opencv_pos_msec": "OpenCV, POS_MSEC",
    "opencv_index_fps": "OpenCV, index / FPS",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, the names of the columns, and cells that are text already."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def rich(self) -> RichTable:
        """For the terminal."""
        table = RichTable(*self.columns, title=self.title)
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """For the README; its own words around the markers are the heading."""
        rule = tuple("---" if i == 0 else "--:" for i in range(len(self.columns)))
        return "\n".join(f"| {' | '.join(row)} |" for row in (self.columns, rule, *self.rows))


def rewrite(readme: str, results: dict[str, Any], names: Sequence[str] = IN_README) -> str:
    """`readme` with the tables of `results` between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`; a missing pair is an error."""
    for name in names:
        if name not in results:
            raise ValueError(f"results.json has no {name!r}; run `python -m tests.benchmarks --only {name}` first")
        titled = name in IN_MODEL_CARD
        text = "\n\n".join((f"**{table.title}**\n\n" if titled else "") + table.markdown() for table in _for_readme(name, results[name]))
        begin, end = f"<!-- bench:{name} -->", f"<!-- /bench:{name} -->"
        found = re.findall(re.escape(begin) + ".*?" + re.escape(end), readme, flags=re.DOTALL)
        if len(found) != 1:
            raise ValueError(f"README.md: expected one {begin} ... {end}; got {len(found)}")
        readme = readme.replace(found[0], f"{begin}\n\n{text}\n\n{end}")
    return readme


def tables(name: str, rows: Rows) -> list[Table]:
    """What is shown of one benchmark."""
    match name:
        case "walk":
            return [_walk(row) for row in rows]
        case "peers":
            return [_peers(rows)]
        case "timeline":
            return [_timeline(rows)]
        case "decode":
            return [_decode_cost(rows), _decode_open(rows)]
        case "edge":
            return [_edge_looks(rows), _edge_step(rows)]
        case "live":
            return [_live(rows)]
        case "latency":
            return [_latency(rows)]
        case "faults":
            return [_faults(rows)]
        case "soak":
            return [_soak(rows)]
        case "attention":
            return [_attention(rows)]
        case "length" | "day":
            return [_length(rows)]
        case "crash":
            return [_crash(rows)]
        case "takeover":
            return [_takeover(rows)]
        case "scroll":
            return [_page(rows[0]), _moved(rows[1:]), _parts(rows[1:])]
        case "load":
            return [_load(rows[0]), _routes(rows[1:])]
        case "footprint":
            return [_footprint(rows[0])]
        case "liquid":
            return [_cells(rows), _streaming(rows)]
        case "seconds":
            return [_seconds(rows, *way) for way in dict.fromkeys((row["regime"], row["short_dt"]) for row in rows)]
        case "xor":
            return [_xor(rows)]
        case "ablation":
            return [_ablation(rows)]
        case "gpu" | "liquid_gpu" | "card" | "pairs":
            names = dict.fromkeys(row["table"] for row in rows)
            return [_as_it_is(TITLES.get(table, table), [row for row in rows if row["table"] == table]) for table in names]
    raise ValueError(f"there is no benchmark {name!r}")


def _walk(row: dict[str, Any]) -> Table:
    cells = [(stage, f"{spent:.2f}") for stage, spent in row["cpu_ms_per_judged_frame"].items()]
    cells += [
        ("all", f"{row['cpu_ms_per_judged_frame_all']:.2f}"),
        ("all, per frame decoded", f"{row['cpu_ms_per_decoded_frame_all']:.2f}"),
        ("decoding alone, per frame", f"{row['cpu_ms_per_decoded_frame_decode_alone']:.2f}"),
        ("walk over decoding alone", f"{row['walk_over_decode_alone']:.1f} x"),
        ("media seconds per CPU second", f"{row['media_s_per_cpu_s']:.1f}"),
    ]
    return Table(row["clip"], ("stage", "CPU-ms per frame judged"), tuple(cells))


def _peers(rows: Rows) -> Table:
    cells = [
        (
            row["pipeline"],
            f"{row['cpu_ms_per_media_s']:.0f}",
            *(f"{row[key]:.1f} x" if key in row else "" for key in ("over_decoding", "over_ours")),
        )
        for row in rows
    ]
    return Table("one face, 720p30", ("pipeline", "CPU-ms per second of media", "over decoding", "over ours"), tuple(cells))


def _live(rows: Rows) -> Table:
    cells = [
        (
            f"{row['streams']}{', attentive' if row['attentive'] else ''}",
            f"{row['seconds']}",
            f"{row['latency_ms']['p50']} / {row['latency_ms']['p95']}",
            f"{row['behind_ms_p95']}",
            f"{row['looks_a_second_each']:.1f}",
            f"{row['looked_at']:,} / {row['shed']:,}",
            f"{row['shed_untold'] + row['lost']}",
            f"{row['p_moved_most']:.3f}",
            f"{row['cores_busy']:.2f}",
            f"{100 * row['memory_grew']:.1f} %",
        )
        for row in rows
    ]
    columns = (
        "streams",
        "seconds",
        "frame to score, ms, p50 / p95",
        "behind, ms, p95",
        "looks a second each",
        "looked at / shed",
        "not told of",
        "p moved by, most",
        "cores busy",
        "memory grew",
    )
    return Table("clients of one RTSP server, two cores", columns, tuple(cells))


def _latency(rows: Rows) -> Table:
    stages = ("decode", "wait", "look", "send", "all")
    cells = [
        (f"{row['streams']}", f"{row['looks_hz']:.1f}", *(" / ".join(f"{ms:.0f}" for ms in row[f"{stage}_ms"]) for stage in stages))
        for row in rows
    ]
    return Table("from a camera's picture to the client's score, ms, p50 / p95", ("streams", "looks a second each", *stages), tuple(cells))


def _faults(rows: Rows) -> Table:
    def seconds(value: float | None) -> str:
        return "" if value is None else f"{value:.1f}"

    cells = [
        (
            f"{row['fault']}, {row['transport'].upper()}",
            seconds(row["noticed_s"]),
            seconds(row["given_up_s"]),
            ", ".join(row["told"]),
            seconds(row["scores_again_s"]),
            " + ".join(seconds(gap_s) for gap_s in row["gaps_s"]) or "none",
            f"{row['tracks_kept']} of {row['tracks']}" if row["tracks"] else "",
            seconds(row["longest_dt_s"]),
            seconds(row["end_s"]),
        )
        for row in rows
    ]
    columns = (
        "the camera is",
        "noticed after, s",
        "given up after, s",
        "states told",
        "scores again after it is back, s",
        "gap told, s",
        "tracks that go on",
        "their dt, s",
        "`stop` to `end`, s",
    )
    return Table(f"faults of a camera, T = {rows[0]['silent_s']:.0f} s", columns, tuple(cells))


def _soak(rows: Rows) -> Table:
    cells = [
        (
            f"{row['seconds']:.0f}",
            f"{sum(row['faults'].values())} of {len(row['faults'])} kinds",
            f"{sum(row['sessions'].values())} / {row['resumed']}",
            f"{row['scores']:,} / {row['holes']}",
            ", ".join(f"{n} {what}" for what, n in row["left"].items()),
            f"{100 * row['memory_grew']:.1f} %",
        )
        for row in rows
    ]
    columns = ("seconds", "faults", "sessions / resumed", "scores / holes among events", "left behind", "memory grew")
    return Table("streams with faults", columns, tuple(cells))


def _attention(rows: Rows) -> Table:
    cells = [
        (
            row["policy"],
            f"{row['looks_a_second_real']:.1f} / {row['looks_a_second_spliced']:.1f}",
            row["false_alarms"],
            row["noticed"],
            f"{row['median_s']:.1f}",
        )
        for row in rows
    ]
    columns = ("looks", "a second, on real / spliced video", "false alarms", "splices noticed within 20 s", "after, s, median")
    return Table("deepfakes spliced into real video", columns, tuple(cells))


def _length(rows: Rows) -> Table:
    cells = []
    for row in rows:
        per_second = f"{row['cpu_ms_per_media_s']:.0f}" if "cpu_ms_per_media_s" in row else ""
        per_look = f"{row['cpu_ms_per_look']:.1f}" if "cpu_ms_per_look" in row else ""
        grew = f"{100 * row['memory_grew']:.1f} %" if "memory_grew" in row else ""
        kept = f"{row['tracks']} / {row['slots_most']} / {row['slots_left']}" if "tracks" in row else ""
        moved = f"{row['p_moved_most']:.1g}" if "p_moved_most" in row else ""
        cells.append((row["what"], per_second, per_look, grew, kept, moved))
    columns = (
        "what",
        "CPU-ms per second of media",
        "CPU-ms per look",
        "memory grew",
        "tracks / slots at most / slots left",
        "p moved by, most",
    )
    return Table("cost against length", columns, tuple(cells))


def _crash(rows: Rows) -> Table:
    cells = [
        (
            f"{row['store']}, {row['replicas']} replica{'s' if row['replicas'] > 1 else ''}",
            str(row["kills"]),
            f"{row['succeeded']} of {row['accepted']}",
            str(row["ended_twice"]),
            str(row["interrupted"]),
            *(
                "none" if row[key] is None else f"{row[key]:.1f}"
                for key in ("lost_median_s", "lost_most_s", "goes_on_median_s", "goes_on_most_s")
            ),
            # Runs of before there were webhooks counted none.
            *(str(row.get(key, "-")) for key in ("webhooks_lost", "webhooks_again", "webhooks_wrong")),
        )
        for row in rows
    ]
    lost = ("interrupted", "lost, s", "at most", "goes on after, s", "at most")
    columns = ("", "killed", "ended", "ended twice", *lost, "webhooks lost", "told again", "wrongly signed")
    return Table("Services killed at random moments: what became of what they had accepted", columns, tuple(cells))


def _takeover(rows: Rows) -> Table:
    cells = [
        (
            f"{row['lost_after_s']:.0f} s",
            f"{row['succeeded']} of {row['kills']}",
            *(f"{row[key]['median']:.1f} / {row[key]['most']:.1f}" for key in ("noticed_s", "goes_on_s", "lost_s")),
            f"{row['refused']} of {row['asked']:,}",
            f"{row['longest_answer_s']:.2f}",
        )
        for row in rows
    ]
    columns = (
        "counts as dead after",
        "analyses that ended on the other",
        "noticed after, s, median / most",
        "goes on after, s",
        "judged again, s of media",
        "answers other than 200 meanwhile",
        "longest, s",
    )
    return Table("one of two replicas behind nginx killed for good", columns, tuple(cells))


def _load(row: dict[str, Any]) -> Table:
    def listed(found: dict[str, int]) -> str:
        return ", ".join(f"{n:,} {what}" for what, n in sorted(found.items()))

    memory = row["resident_mib"]
    cells = (
        ("seconds", f"{row['seconds']:.0f}"),
        ("answers by status", listed(row["statuses"])),
        ("refused, connections lost", f"{sum(row['refused'].values())}, {sum(row['broken'].values())}"),
        ("events lost, doubled or out of order", f"{row['events_wrong']} of {sum(row['events'].values()):,}"),
        ("event streams", listed(row["streams"])),
        ("uploads accepted; ended twice", f"{row['accepted']} ({listed(row['ends'])}); {row['ended_twice']}"),
        ("MiB before, in the second and the last quarter", f"{memory['before']}, {memory['second_quarter']}, {memory['last_quarter']}"),
        ("MiB at most, with decode children", f"{memory['most_with_children']}"),
        ("cores that the service got", f"{row['cores_busy']:.2f}"),
        ("calls without a model, ms, p50 / p95 / p99", _percentiles(row)),
        ("the same calls, from the service's first line to its last byte", _percentiles({"ms": row["ms_in_the_service"]})),
    )
    crowd = f"{row['uploaders']} uploads, {row['watchers']} watchers, {row['dashboards']} dashboards"
    return Table(crowd, (crowd, ""), cells)


def _routes(rows: Rows) -> Table:
    cells = tuple((row["route"], f"{row['calls']:,}", _percentiles(row)) for row in rows)
    return Table("each route", ("route", "calls", "ms, p50 / p95 / p99"), cells)


def _percentiles(row: dict[str, Any]) -> str:
    return " / ".join(f"{row['ms'][name]:.0f}" for name in ("p50", "p95", "p99"))


def _footprint(row: dict[str, Any]) -> Table:
    idle = row["idle"]
    cells = (
        ("from the command to ready, s", f"{row['ready_s']:.1f}"),
        ("import alone, s", f"{row['import_s']:.1f}"),
        ("idle, MiB resident / proportional", f"{idle['resident_mib']} / {idle['proportional_mib']}"),
        (
            f"its {idle['children']} children, MiB resident / proportional",
            f"{idle['children_resident_mib']} / {idle['children_proportional_mib']}",
        ),
        (f"its {row['packages']} packages on disk, MiB", f"{row['packages_mib']:,}"),
        ("of that, what only a GPU needs", f"{row['for_gpus_mib']:,}"),
        ("the largest", ", ".join(f"{name} {size:,}" for name, size in row["largest_mib"].items())),
    )
    return Table("an idle service", ("", ""), cells)


def _page(row: dict[str, Any]) -> Table:
    cells = (
        ("HTML, scripts, styles and pictures of the page, gzipped, kB", f"{row['bytes'] / 1000:.0f} in {row['files']} files"),
        ("of that, scripts and styles, kB", f"{row['js_bytes'] / 1000:.0f} and {row['css_bytes'] / 1000:.0f}"),
        ("from the navigation to the verdict's sentence, ms, median / most", _median_most(row["sentence_ms"])),
        ("to the first key that moves the timeline, ms", _median_most(row["usable_ms"])),
        ("columns of a result that has none, made once, s of CPU", f"{row['columns_s']:.1f}"),
        ("processes that wanted the two cores, on average", f"{row['load']:.1f}"),
    )
    title = f"{row['hours']} hours, {row['rows']:,} rows"
    return Table(title, (title, ""), cells)


def _median_most(found: dict[str, float]) -> str:
    return f"{found['median']:.0f} / {found['most']:.0f}"


def _moved(rows: Rows) -> Table:
    moved = [row for row in rows if row["table"] == "moved"]
    cells = [
        (
            row["way"],
            f"{row['fps']['p50']:.0f} / {row['fps']['p5']:.0f}",
            f"{row['frames']}, {row['dropped']}",
            f"{row['main_ms']['p50']:.1f} / {row['main_ms']['p95']:.1f}",
            f"{row['load']:.1f}",
        )
        for row in moved
    ]
    columns = ("moved", "frames a second, p50 / p5", "frames, dropped", "main thread, ms of CPU a frame, p50 / p95", "load")
    return Table("the timeline moved and looked into", columns, tuple(cells))


def _parts(rows: Rows) -> Table:
    parts = [row for row in rows if row["table"] == "parts"]
    cells = tuple((row["what"], f"{row['cpu_ms']:.0f}", f"{row['ms']:.0f}", f"{row['mb']:.2f}") for row in parts)
    return Table("a part at 2000 points a face", ("a part of 2000 points a face", "ms of CPU", "ms", "MB"), cells)


def _for_readme(name: str, rows: Rows) -> list[Table]:
    """Six lines instead of one for every pattern in every container, one clip's walk; results.json and the terminal have them all."""
    if name == "timeline":
        return [_timeline_worst(rows)]
    return tables(name, rows[-1:] if name == "walk" else rows)


def _timeline(rows: Rows) -> Table:
    cells = []
    for row in rows:
        errors = [_ms(row["max_error_ms"][reader]) for reader in READERS]
        moved = row["container_shift_ms"]
        cells.append((row["pattern"], row["container"], *errors, "" if moved == 0 else f"{moved / 1000:.3f} s"))
    columns = ("pattern", "container", *READERS.values(), "the file moves all times by")
    return Table("largest |t - truth| in ms; relative to the first picture unless absolute", columns, tuple(cells))


def _timeline_worst(rows: Rows) -> Table:
    cells = []
    for pattern in dict.fromkeys(row["pattern"] for row in rows):
        here = [row for row in rows if row["pattern"] == pattern]
        worst = []
        for reader in READERS:
            errors = {row["container"]: row["max_error_ms"][reader] for row in here}
            known = {container: error for container, error in errors.items() if error is not None}
            container = max(known, key=lambda one: known[one])
            none = "".join(f"; {one}: no rate" for one in errors if one not in known)
            worst.append(f"{_ms(known[container])} ({container}{none})" if known[container] >= 0.001 else f"0{none}")
        cells.append((pattern, *worst))
    return Table("largest |t - truth| in ms, in the worst container", ("pattern", *READERS.values()), tuple(cells))


def _decode_cost(rows: Rows) -> Table:
    columns = (
        "clip",
        "Mb/s",
        "bare PyAV loop",
        "bare, one thread",
        "read_frames",
        "read_frames in the sandbox",
        "64 kB feed",
        "OpenCV, all frames",
        "key frames only",
    )
    cells = []
    for row in rows:
        spent = row["cpu_ms_per_frame"]
        cells.append(
            (
                row["clip"],
                f"{row['mbit_s']:.1f}",
                f"{spent['bare']:.2f}",
                f"{spent['bare_one_thread']:.2f}",
                f"{spent['in_process']:.2f} ({row['in_process_over_bare']:.2f} x)",
                f"{spent['child']:.2f} ({row['child_over_bare']:.2f} x)",
                f"{spent['feed_64kb']:.2f}" if "feed_64kb" in spent else "-",
                f"{spent['opencv']:.2f}",
                f"{row['key_frames_speedup']:.1f} x faster",
            )
        )
    return Table("CPU-ms per frame decoded, 12 a second converted to RGB", columns, tuple(cells))


def _decode_open(rows: Rows) -> Table:
    columns = ("clip", "in process", "through a warm sandbox", "through a cold one")
    ways = ("in_process", "warm_sandbox", "cold_sandbox")
    cells = tuple((row["clip"], *_each(row["open_ms"], ways)) for row in rows)
    return Table("milliseconds until a file is open", columns, cells)


def _edge_looks(rows: Rows) -> Table:
    cells = tuple(
        (
            row["clip"],
            f"{row['example_ms']:.1f}",
            f"{row['analyse_ms']:.1f}",
            f"{row['example_start_ms']:.0f}",
            f"{row['example_peak_mb']:.0f}",
            f"{row['largest_difference']:.0e}",
        )
        for row in rows
        if row["table"] == "looks"
    )
    (size,) = (row["bundle_mb"] for row in rows if row["table"] == "size")
    columns = ("clip", "the example, CPU-ms a look", "`analyse`", "its start, CPU-ms", "its peak, MB", "largest difference of a logit")
    return Table(f"an edge profile of {size:.1f} MB", columns, cells)


def _edge_step(rows: Rows) -> Table:
    cells = tuple((row["step"], f"{row['warm_us']:.0f}", f"{row['cold_us']:.0f}") for row in rows if row["table"] == "step")
    return Table("one step of the memory, one row", ("one step of the memory", "warm, us", "after 32 MB of other work, us"), cells)


def _cells(rows: Rows) -> Table:
    sizes = (1, 64)
    known = {(row["model"], row["batch"]): row for row in rows if row["table"] == "sequence"}
    cells = []
    for model in dict.fromkeys(model for model, _ in known):
        row = known[model, sizes[0]]
        times = [_times(known[model, batch], key) for batch in sizes for key in ("forward_ms", "both_ms")]
        cells.append((model, f"{row['parameters']:,}".replace(",", " "), row["against"] or "-", *times))
    columns = (
        "model",
        "parameters",
        "compared with",
        *(f"{what}, {batch} row{'s' * (batch > 1)}" for batch in sizes for what in ("forward", "and backward")),
    )
    return Table("milliseconds for 300 steps, 128 inputs, 64 units, one thread", columns, tuple(cells))


def _times(row: dict[str, Any], key: str) -> str:
    if row[key] is None:
        return "-"
    ratio = row[f"{key}_ratio"]
    return f"{row[key]:.1f}" if ratio is None else f"{row[key]:.1f} ({ratio:.1f} x faster)"


def _streaming(rows: Rows) -> Table:
    columns = ("streams", "the whole head, D = 64", "for each stream", "nn.LSTM alone", "head over LSTM")
    cells = tuple(
        (
            str(row["batch"]),
            f"{row['head_us']:.0f}",
            f"{row['head_us_per_stream']:.1f}",
            f"{row['lstm_us']:.0f}",
            f"{row['over_lstm']:.1f} x",
        )
        for row in rows
        if row["table"] == "streaming"
    )
    return Table("microseconds a tick, one thread", columns, cells)


SAMPLINGS = {"fps60": "60 fps", "fps30": "30", "fps15": "15", "fps10": "10", "fps5": "5", "burst": "bursts", "drop50": "half dropped"}


def _seconds(rows: Rows, regime: str, short_dt: bool) -> Table:
    here = [row for row in rows if (row["regime"], row["short_dt"]) == (regime, short_dt)]
    cells = []
    for row in here:
        shown = [_error(row[name]) for name in (regime, *SAMPLINGS)]
        cells.append((row["arm"], f"{row['parameters']:,}".replace(",", " "), *shown))
    trained = {
        ("narrow", True): "trained at 20 to 30 fps and short intervals",
        ("narrow", False): "trained at 20 to 30 fps alone",
        ("wide", True): "trained at 5 to 60 fps, bursts, short intervals",
    }[regime, short_dt]
    title = f"{trained}: balanced error in % (false positives in %) at one frozen threshold, mean of {here[-1]['seeds']} seeds"
    return Table(title, (trained, "parameters", "as trained", *SAMPLINGS.values()), tuple(cells))


def _error(found: dict[str, Any]) -> str:
    return f"{100 * found['balanced_error']['mean']:.1f} ({100 * found['fpr']['mean']:.0f})"


def _xor(rows: Rows) -> Table:
    """What was measured, then what was published."""
    cells = [
        (
            row["model"],
            _spread(row["accuracy"], row["sd"]),
            f"{row['parameters']:,}".replace(",", " "),
            str(row["epochs"]),
            str(row["seeds"]),
        )
        for row in rows
    ]
    cells += [(name, _spread(*found), "-", "200", "5") for name, found in PUBLISHED.items()]
    return Table("event-based XOR, test accuracy in %", ("model", "accuracy", "parameters", "epochs", "seeds"), tuple(cells))


def _ablation(rows: Rows) -> Table:
    def seeds(found: dict[str, Any]) -> str:
        return f"{found['mean']:.3f} ({', '.join(f'{value:.3f}' for value in found['seeds'])})"

    cells = [
        (
            row["says"],
            f"{seeds(row['pseudo'])} [{row['pseudo_interval'][0]:.3f}, {row['pseudo_interval'][1]:.3f}]",
            seeds(row["pair_accuracy"]),
            seeds(row["unseen_families"]),
            seeds(row["validation_macro"]),
        )
        for row in rows
    ]
    columns = (
        f"trained for {rows[0]['pairs']:,} pairs with".replace(",", " "),
        "pseudo-fakes of unseen people, AUC (seeds) [95 %]",
        "fake above its original",
        "two mask families, AUC",
        f"genuine deepfakes, macro AUC (control {rows[0]['control_macro']:.3f})",
    )
    return Table("what each part of the encoder's training is worth, single pictures", columns, tuple(cells))


def _spread(mean: float, sd: float) -> str:
    return f"{mean:.2f} ± {sd:.2f}"


def _as_it_is(title: str, rows: Rows) -> Table:
    """Every key a column."""
    columns = tuple(dict.fromkeys(key for row in rows for key in row if key != "table"))
    return Table(title, columns, tuple(tuple(str(row.get(key, "")) for key in columns) for row in rows))


def _each(values: dict[str, float], names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{values[name]:.1f}" for name in names)


def _ms(error: float | None) -> str:
    """Milliseconds, or why there are none."""
    if error is None:
        return "no rate"
    return f"{error:.3f}" if error < 1 else f"{error:.1f}" if error < 10 else f"{error:,.0f}".replace(",", " ")
