"""`undercurrent verify PACK`: a pack comes in, a table that anybody can read and an exit status go out. Only `--rejudge` loads a model.

Exit status: 0 valid and signed by a key of `--key`, 1 not valid, 2 usage, 3 a file is missing or no key, 4 whole, by a key nobody named.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from service.pack_check import CheckedPack
    from service.pack_container import PackRefused

NOT_VALID: Final = 1
KEY_UNKNOWN: Final = 4
State = Literal["valid", "not_valid", "signer_unknown"]
SENTENCES: Final[dict[State, str]] = {
    "valid": "Valid: unchanged since it was signed, by a key that you named.",
    "not_valid": "Not valid.",
    "signer_unknown": "Unchanged since it was signed; but anybody can sign. Is this key the one that you know? Name it with --key.",
}


def verify_command(
    pack: Annotated[Path, typer.Argument(help="An evidence pack (.zip).", metavar="PACK")],
    key: Annotated[list[Path] | None, typer.Option(help="Public keys (PEM) that you trust; may be given several times.")] = None,
    media: Annotated[Path | None, typer.Option(help="The media that the pack should be about.")] = None,
    rejudge: Annotated[bool, typer.Option("--rejudge", help="Judge --media again and compare every number.")] = False,
    weights: Annotated[Path | None, typer.Option(help="With another checkpoint than the shipped one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say whether an evidence pack is as it was signed, and by whom."""
    from pipelines.errors import SourceNotFound
    from service.pack_check import check_pack
    from service.pack_container import PackRefused
    from service.pack_signing import public_keys

    if rejudge and media is None:
        raise typer.BadParameter("--rejudge needs --media")
    for path in (pack, *(key or []), *([media] if media else [])):
        if not path.is_file() or not os.access(path, os.R_OK):
            got = "one that may not be read" if path.is_file() else "none"
            raise SourceNotFound(f"There is no file {path} to read.", expected="a file that can be read", got=got)
    trusted = {one.id: one for path in key or [] for one in public_keys(path.read_bytes(), str(path))}
    numbers = None
    try:
        with pack.open("rb") as file:
            checked = check_pack(file)
        if trusted and checked.key not in trusted.values():
            raise PackRefused("Another key than yours signed it.", expected=f"one of {', '.join(trusted)}", got=checked.key.id)
        if media is not None:
            _check_media(checked, media)
            numbers = _judge_again(checked, media, weights) if rejudge else None
    except PackRefused as error:
        _refused(error, as_json)
        raise typer.Exit(NOT_VALID) from None
    state: State = "valid" if trusted else "signer_unknown"
    _told(checked, state, as_json, media=media is not None, numbers=numbers or "not judged again")
    if state != "valid":
        raise typer.Exit(KEY_UNKNOWN)


def _check_media(checked: CheckedPack, media: Path) -> None:
    from service.pack_container import PackRefused

    with media.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != checked.manifest.media_sha256:
        raise PackRefused(f"{media} is not the media of this pack.", expected=f"sha256 {checked.manifest.media_sha256}", got=found)


def _judge_again(checked: CheckedPack, media: Path, weights: Path | None) -> str:
    from pipelines.analysis import load_model
    from service.rejudging import judge_again

    device = "cpu" if checked.contents.config.machine.device == "cpu" else "auto"
    return judge_again(checked.contents, media, load_model(weights, device=device))


def _refused(error: PackRefused, as_json: bool) -> None:
    if as_json:
        from service.problems import problem_of

        typer.echo(_line({"state": "not_valid", "problem": problem_of(error).model_dump(exclude_none=True)}))
        return
    console = Console()
    console.print(SENTENCES["not_valid"], style="bold red")
    for line in (error.detail, f"expected: {error.expected}", f"got: {error.got}"):
        console.print(_plain(line), markup=False, highlight=False, soft_wrap=True)


def _told(checked: CheckedPack, state: State, as_json: bool, *, media: bool, numbers: str) -> None:
    manifest, contents = checked.manifest, checked.contents
    facts = {
        "verdict": contents.result.verdict,
        "sentence": contents.result.sentence,
        "media": contents.media.filename or "without a name",
        "media_sha256": manifest.media_sha256,
        "media_compared": "with the file of --media" if media else "with the copy inside" if contents.media.file else "no",
        "numbers": numbers,
        "decisions": str(len(contents.decisions)),
        "analysis": manifest.analysis.id if manifest.analysis else "of the command line",
        "signed_by": checked.key.id,
        "signed_at": manifest.signed_at.isoformat(),
        "made_by": f"Undercurrent {contents.config.version}, commit {contents.config.commit or 'unknown'}",
        "weights_sha256": contents.config.model.weights_sha256,
        "files": str(len(manifest.files)),
        "pack_sha256": checked.sha256,
    }
    if as_json:
        typer.echo(_line({"state": state, **facts}))
        return
    console = Console()
    console.print(SENTENCES[state], style="bold green" if state == "valid" else "bold yellow")
    table = Table(box=None, pad_edge=False, show_header=False)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), escape(_plain(value)))
    console.print(table)


def _plain(text: str) -> str:
    """Names in a pack are a stranger's: they may not steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _line(value: object) -> str:
    import json

    return json.dumps(value)
