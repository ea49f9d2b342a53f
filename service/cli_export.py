"""`undercurrent export`: a directory in, files that judge without torch out. Mounted by `cli.py`, made by `pipelines/edge_bundle.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from service.cli_output import Steps, check_folder, write_file


def export_command(
    folder: Annotated[Path, typer.Argument(help="Directory to write; made if it is not there.", metavar="DIR")],
    weights: Annotated[Path | None, typer.Option(help="Another checkpoint than the shipped one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write into a directory that holds something already.")] = False,
) -> None:
    """Write the nets as ONNX, their numbers, and an example that needs only onnxruntime, numpy, opencv and av."""
    check_folder(folder, force=force)

    from pipelines.edge_bundle import FILES, edge_files
    from pipelines.model import load_model

    table = Table("file", "kB", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    model = load_model(weights)
    with Steps("exporting", len(FILES)) as steps:
        made = list(steps.each(edge_files(model)))
    # All of it, or, where the weights cannot be exported, nothing. The profile is the last: without one, a folder is not finished.
    folder.mkdir(exist_ok=True)
    for name, content in made:
        write_file(folder / name, content)
        table.add_row(name, f"{len(content) / 1000:.1f}")
    console = Console()
    console.print(table)
    origin = f"{model.info.name} {model.info.version}, sha256 {model.info.weights_sha256[:16]}"
    console.print(
        f"{origin}, in {folder}. Try: python {folder / 'detect.py'} VIDEO",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
