"""The `smalti` command: one verb a job. Each verb imports its room late, so that `smalti --help` answers at once."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from smalti import __version__, command_log, terminal
from smalti.cli_options import Data, Log, Out, Overwrite, Scale, Set, Show, Tile, Trust

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="""Train, evaluate and use segmentation networks.

\b
First steps:
  smalti demo                                         train, measure and predict in four minutes
  smalti train sis_cnn.quick --out runs/first         the same, step by step
  smalti evaluate runs/first --split test
  smalti predict photo.jpg --model runs/first --out answers

\b
Your own pictures (images/ and masks/, paired by name):
  smalti data folder=my_pictures                      look at what is there
  smalti train sis_cnn.quick --data folder=my_pictures --out runs/mine""",
)


def main() -> None:
    """Runs the command; what a user can mend is one line on stderr and exit code 1, not a traceback."""
    terminal.accept_all_letters()
    with command_log.finishing_log():
        try:
            app(standalone_mode=True)
        except (ValueError, OSError, FloatingPointError) as error:
            command_log.keep_traceback(error)
            typer.echo(f"error: {error}", err=True)
            sys.exit(1)


@app.callback(invoke_without_command=True)
def _top(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --version: also packages and machine, for reports.")
    ] = False,
) -> None:
    if as_json and not version:
        raise typer.BadParameter("--json goes with --version")
    if as_json:
        from smalti.diagnostics import environment

        typer.echo(json.dumps(environment(), indent=1, ensure_ascii=False))
        raise typer.Exit
    if version:
        typer.echo(f"smalti {__version__}")
        raise typer.Exit


def _changes(settings: list[str] | None) -> dict[str, Any]:
    changes = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set takes KEY=VALUE, e.g. --set training.epochs=10; got {setting}")
        changes[key.strip()] = value.strip()
    return changes


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="`smalti list recipes` shows them; or my_recipes.py:tiny")],
    out: Out,
    data: Data = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipe: KEY=VALUE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    allow_other_data: Annotated[
        bool, typer.Option("--allow-other-data", help="With --resume: go on with other images, and record it.")
    ] = False,
    log: Log = None,
) -> None:
    """Train a recipe into a run folder, and measure it.

    Writes history, curves and example pictures after each epoch, metrics.json and report.html at the end.

    \b
    Examples:
      smalti train sis_cnn.quick --out runs/first
      smalti train sis_cnn.camvid --data ~/data/CamVid --out runs/camvid
      smalti train sis_cnn.camvid --data folder=my_pictures --out runs/mine --set training.epochs=10
      smalti train sis_cnn.camvid --data ~/data/CamVid --out runs/camvid --resume
    """
    from smalti import session
    from smalti.training.run import Reporting

    reporting = Reporting(write=typer.echo, bar=sys.stdout.isatty())
    resumed = session.resume_as(resume, allow_other_data)
    found = session.train(recipe, data=data, out=out, resume=resumed, changes=_changes(set_), reporting=reporting)
    if not found:
        raise typer.Exit(130)
    _show(found)
    typer.echo(f"report: {out / 'report.html'}")


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Run folder, checkpoint, exported file, or `default`.")],
    data: Data = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, val, test or all; else the validation split, or all of a folder that the run has never seen."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.json and report.html.")] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(help="Objects of an image and class that count in AP; else 100, or as many as are there.", min=1),
    ] = None,
    set_: Set = None,
    overwrite: Overwrite = False,
    trust: Trust = False,
    log: Log = None,
) -> None:
    """Measure a trained network on a split of a data set.

    The numbers come with their protocol; --out writes them and a report.

    \b
    Examples:
      smalti evaluate runs/camvid --data ~/data/CamVid --split test --out results/camvid_test
      smalti evaluate runs/voc --set config.output_stride=8
    """
    from smalti import session

    changes = _changes(set_) | ({} if max_objects is None else {"evaluation.max_objects": max_objects})
    with _progress("pictures") as progress:
        options = session.EvaluationOptions(changes=changes, overwrite=overwrite, trust=trust, progress=progress)
        found = session.evaluate(model, data=data, split=split, out=out, options=options)
    _show(found)
    if out is not None:
        typer.echo(f"report: {out / 'report.html'}")


@app.command()
def predict(
    sources: Annotated[list[str], typer.Argument(help="Pictures, folders, rasters, videos, camera:0, addresses.")],
    model: Annotated[Path, typer.Option(help="Run folder, checkpoint or exported file.")] = Path("default"),
    out: Annotated[Path, typer.Option(help="Folder for the answers.")] = Path("predictions"),
    show: Show = "both",
    runtime: Annotated[
        Literal["auto", "torch", "onnx", "openvino"],
        typer.Option(help="What computes; auto = the fastest that is worth it."),
    ] = "auto",
    device: Annotated[str | None, typer.Option(help="torch's, like cpu or cuda:1.")] = None,
    views: Annotated[str, typer.Option(help="Answers averaged over scales and mirror images: 0.75,1,1.25,flip.")] = "1",
    tile: Tile = "auto",
    bands: Annotated[str | None, typer.Option(help="Bands of a raster that are red, green and blue: 4,3,2.")] = None,
    scale: Scale = "auto",
    smoothing: Annotated[float, typer.Option(help="Videos: weight of the frames before, 0 to 1.")] = 0.0,
    every: Annotated[int, typer.Option(help="Videos: predict on every N-th frame only.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Pass over what is answered already.")] = False,
    overwrite: Overwrite = False,
    trust: Trust = False,
    set_: Set = None,
    log: Log = None,
) -> None:
    """Segment pictures, folders, huge rasters, videos and cameras.

    Without --model the network of the package is used, which knows street scenes. Of each picture an index mask
    NAME.png and a coloured NAME_overlay.jpg with a legend are written; --show names other answers: maps (difficulty,
    edges, distances, probabilities), objects (instances, panoptic, boxes, cityscapes), regions (polygons).
    Georeferenced images and those above 67 megapixels become a GeoTIFF of labels and a preview, tile by tile, and with
    --show polygons GeoJSON and GeoPackage; videos become videos with their sound.

    \b
    Examples:
      smalti predict photo.jpg
      smalti predict holiday/ --out answers --show overlay --resume
      smalti predict drive.mp4 --smoothing 0.7
      smalti predict orthophoto.tif --model runs/aerial --tile 768 --bands 1,2,3
      smalti predict street/ --model runs/hourglass --out objects --show instances,panoptic,edges
      smalti predict photo.jpg --model runs/camvid --views 0.75,1,1.25,flip
      smalti predict scans/ --model runs/camvid --scale 0,4095
    """
    from smalti.predict.loading import Execution
    from smalti.predict.options import Options, parse_bands, parse_tiles, parse_value_range
    from smalti.predict.sources import Telling, predict_sources
    from smalti.predict.views import Views

    terminal.show_notes()
    options = Options(
        execution=Execution(runtime=runtime, device=device, trust=trust), changes=_changes(set_),
        views=Views.parse(views), tiles=parse_tiles(tile), bands=parse_bands(bands) if bands else None,
        smoothing=smoothing, every=every, resume=resume, overwrite=overwrite, value_range=parse_value_range(scale),
    )  # fmt: skip
    with terminal.stopping():
        telling = Telling(line=typer.echo, bar=_progress)
        outcome = predict_sources(model, sources, out, show, telling=telling, options=options)
    typer.echo(f"{outcome.answered} of {outcome.asked} segmented" + (f", answers in {out}" if outcome.answered else ""))
    for error in outcome.failed:
        typer.echo(f"error: {error}", err=True)
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="Run folder or checkpoint, or `default`.")],
    to: Annotated[Literal["onnx", "openvino", "torch"], typer.Option(help="The runtime that is to take it.")],
    out: Annotated[Path, typer.Option(help="The file: .onnx, .xml (OpenVINO) or .pt2 (torch).")],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit numbers, calibrated on training pictures.")] = False,
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Judged on this split; else the validation split.")] = None,
    set_: Set = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Write a network for another runtime, and prove that it answers alike.

    The file carries class table, input policy and card; batch, height and width stay free. It is run beside the network
    on pictures of odd sizes, with --data also measured on that data set, and what was seen is written into its card. If
    it loses more than 0.1 points (8 bits: 0.5), the command says so and ends with code 1. `smalti predict` and
    `smalti evaluate` take such files like checkpoints.

    \b
    Examples:
      smalti export runs/first --to onnx --out first.onnx
      smalti export default --to openvino --out street.xml --int8 --data camvid=~/data/CamVid
    """
    from smalti.exporting import Wish
    from smalti.exporting import export as run_export

    wish = Wish(to=to, out=out, int8=int8, data=data, split=split, overwrite=overwrite)
    with _progress("pictures") as progress:
        written = run_export(model, wish, changes=_changes(set_), tell=typer.echo, progress=progress)
    typer.echo(f"{written.path}: {written.reason}")
    if not written.agrees:
        typer.echo("error: the file answers otherwise than the network: do not use it in its place", err=True)
        raise typer.Exit(1)


@app.command()
def ablate(
    name: Annotated[str, typer.Argument(help="`smalti list ablations` shows them; or a recipe.")],
    out: Out,
    data: Data = None,
    split: Annotated[str | None, typer.Option(help="Measured on this split; else the validation split.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each row; 3 if not said.", min=1, max=99)] = None,
    folds: Annotated[
        int | None, typer.Option(help="Runs of each row on so many of the data set's folds, all with one seed.", min=1)
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Another recipe to change than the ablation's own.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only rows with this in their name (and the first).")] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help='A row of your own: "KEY=VALUE KEY=VALUE"; may be repeated.')
    ] = None,
    jobs: Annotated[int, typer.Option(help="Trainings side by side, each with its share of the cores.", min=1)] = 1,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change all rows: KEY=VALUE.")] = None,
    log: Log = None,
) -> None:
    """Compare variants of a recipe over seeds.

    Trains every row with every seed, and writes a table with spreads, paired differences and the paper's numbers
    (ablation.md, .csv, .png). The same command goes on where it was interrupted. With --folds the runs differ by the
    data set's folds: cross-validation. A recipe's name alone gives its own numbers with their spread. Small networks
    train faster side by side (--jobs 2) than one after the other on all cores.

    \b
    Examples:
      smalti ablate pac_deeplab.bal --data ~/data/CamVid --split test --out runs/bal
      smalti ablate sis_cnn.quick --variant training.learning_rate=1e-3 --variant "training.ema=none" --out runs/mine
      smalti ablate ccfnet.stanford_background --folds 5 --out runs/stanford
    """
    from smalti.studies.ablate import Trial, choose_ablation, run_ablation

    ablation = choose_ablation(name, recipe, [_changes(text.split()) for text in variant or []])
    if folds and seeds:
        raise ValueError("give --seeds or --folds: the runs of a row differ by one of them")
    trial = Trial(
        data=data,
        split=split,
        repeats=folds or seeds or 3,
        over="fold" if folds else "seed",
        only=tuple(only or ()),
        jobs=jobs,
        changes=_changes(set_),
    )
    if not run_ablation(ablation, out, trial, typer.echo):
        raise typer.Exit(130)
    typer.echo((out / "ablation.md").read_text(encoding="utf-8"))


@app.command("list")
def list_(
    what: Annotated[
        Literal["recipes", "ablations", "models", "datasets", "encoders"], typer.Argument(help="What to list.")
    ] = "recipes",
    log: Log = None,
) -> None:
    """List recipes, ablations, models, data sets or encoders.

    \b
    Examples:
      smalti list recipes
      smalti list encoders | grep efficientnet
    """
    from smalti.studies.listing import listing

    for line in listing(what):
        typer.echo(line)


@app.command("data")
def data_(
    data: Annotated[str, typer.Argument(help="PATH of a folder, or NAME or NAME=PATH of a data set.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write a picture of samples with their truth here.")] = None,
    overwrite: Overwrite = False,
    log: Log = None,
) -> None:
    """Look at a data set: sizes, classes, what is wrong.

    Shows each split with its classes by share of pixels, how masks were read, what is doubtful, and the files that
    cannot be used; then the exit code is 1.

    \b
    Examples:
      smalti data folder=my_pictures
      smalti data camvid=~/data/CamVid --split train --out camvid.png
      smalti data scenes --out scenes.png
    """
    from smalti.studies.data_summary import summarise

    if not summarise(data, split, out, typer.echo, overwrite=overwrite):
        raise typer.Exit(1)


@app.command()
def demo(out: Out = Path("demo"), overwrite: Overwrite = False, log: Log = None) -> None:
    """Train, measure and predict on drawn street scenes.

    Ends by naming the report and the pictures to look at.

    \b
    Examples:
      smalti demo
      smalti demo --out somewhere
    """
    from smalti.studies.demo import run_demo

    if not run_demo(out, typer.echo, bar=sys.stdout.isatty(), overwrite=overwrite):
        raise typer.Exit(130)


def _progress(unit: str) -> Any:
    from smalti.studies.progress import progress_bar

    return progress_bar(unit, sys.stderr.isatty())


def _show(found: dict[str, Any]) -> None:
    from smalti.studies.listing import metric_lines

    for line in metric_lines(found):
        typer.echo(line)
