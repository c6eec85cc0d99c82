"""Options that several verbs of the command share."""

from pathlib import Path
from typing import Annotated

import typer

from smalti import command_log

Data = Annotated[
    str | None, typer.Option(help="PATH of the recipe's data set, or NAME=PATH; else SMALTI_DATA is searched.")
]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files there that smalti did not write, or that changed since.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Load a .pt2 file, which may run any code: only from people you trust.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting of the trained model: KEY=VALUE.")]
Scale = Annotated[
    str,
    typer.Option(help="Values of images deeper than 8 bits that become 0 and 255: 0,4095; auto = as trained, "
                 "else measured."),
]  # fmt: skip
Tile = Annotated[str, typer.Option(help="Side of overlapping tiles in pixels; none; auto = as memory allows.")]
Show = Annotated[
    str,
    typer.Option(
        help="What is written for each picture, with commas between: both (labels and overlay), labels, overlay, "
        "probabilities, zarr, polygons, difficulty, edges, distances, instances, panoptic, boxes, cityscapes."
    ),
]
Log = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", is_eager=True, callback=command_log.start_log,
        help="Log to send with a report: versions, every line, tracebacks.",
    ),
]  # fmt: skip
