"""The tables of an ablation: means and spreads over seeds or folds, and differences paired by them."""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from smalti.evaluation.plots import Difference, plot_differences
from smalti.files import replacing, write_text
from smalti.recipe import Ablation, Variant

TITLES = {
    "semantic.miou": "mIoU",
    "semantic.pixel_accuracy": "pixel accuracy",
    "semantic.class_accuracy": "class accuracy",
    "boundary.miou_3": "boundary mIoU 3 px",
    "boundary.miou_5": "boundary mIoU 5 px",
    "boundary.miou_10": "boundary mIoU 10 px",
    "difficulty.auc": "difficulty AUC",
    "edges.ods_f": "edge F",
    "distances.mae": "distance error (less is better)",
    "panoptic.pq_things": "PQ of things",
    "instances.ap50": "mask AP at 0.50",
    "boxes.map50": "box mAP at 0.50",
    "boxes.ap": "box AP",
}
"""Others appear under their own name."""
TABLES = ("ablation.md", "ablation.csv", "ablation.png")
Measured = tuple[float, float]
"""Mean and standard deviation, in points; the latter is NaN for one value."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row with one seed or fold: what was measured, how, and how long the training took."""

    metrics: dict[str, float]
    protocol: dict[str, Any]
    seconds: float
    wanted: dict[str, Any] = field(default_factory=dict)
    """The recipe that was asked for, as JSON: cells made by another one are not taken for this row's."""

    def value(self, key: str) -> float:
        """A metric; NaN if it could not be measured."""
        return self.metrics.get(key, math.nan)


Cells = Mapping[tuple[str, int], Cell]


def write_tables(ablation: Ablation, cells: Cells, out: Path, over: str = "seed") -> None:
    """Writes `ablation.md`, `ablation.csv` (one line a run) and `ablation.png` into a folder."""
    write_text(out / "ablation.md", markdown(ablation, cells, over))
    write_text(out / "ablation.csv", _csv(cells, over))
    rows = [row for row in ablation.rows[1:] if _repeats(cells, row.name)]
    shown = _shown(ablation, cells)
    if rows and shown:
        panels = {_title(key): [_difference(ablation, cells, row, key) for row in rows] for key in shown[:2]}
        with replacing(out / "ablation.png") as part:
            part.write_bytes(plot_differences(panels))


def _shown(ablation: Ablation, cells: Cells) -> list[str]:
    """The ablation's metrics that were measured in any run; if none was, what else has a title and was measured."""
    measured = {key for cell in cells.values() for key in cell.metrics if not math.isnan(cell.metrics[key])}
    return [key for key in ablation.metrics if key in measured] or [key for key in TITLES if key in measured]


def _title(key: str) -> str:
    return TITLES.get(key, key)


def markdown(ablation: Ablation, cells: Cells, over: str = "seed") -> str:
    """The table with its protocol: every number in points (hundredths), mean ± standard deviation over seeds or folds.

    A single row has no differences.
    """
    shown = _shown(ablation, cells)
    compared = len(ablation.rows) > 1
    head = ["variant", f"{over}s"]
    for key in shown:
        head.append(_title(key))
        if compared:
            head += ["Δ", "Δ clear?", "paper's Δ"] if key == shown[0] else ["Δ"]
    lines = [f"# {ablation.name}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in ablation.rows:
        repeats = _repeats(cells, row.name)
        if not repeats:
            continue
        fields = [row.name, str(len(repeats))]
        for key in shown:
            fields.append(_text(_spread([100 * cells[row.name, repeat].value(key) for repeat in repeats])))
            if compared:
                difference, *verdict = _compared(ablation, cells, row, key)
                fields += [difference, *(verdict if key == shown[0] else ())]
        lines.append("| " + " | ".join(fields) + " |")
    return "\n".join([*lines, "", *_notes(ablation, cells, over)]) + "\n"


def _compared(ablation: Ablation, cells: Cells, row: Variant, key: str) -> list[str]:
    """The row's difference to the first one, whether it is clear, and, of the first metric, the paper's difference."""
    baseline, reported = row is ablation.rows[0], _reported(ablation, row, key)
    pairs = _pairs(ablation, cells, row.name, key)
    return [
        "" if baseline else _text(_spread(pairs), signed=True),
        "" if baseline else _verdict(pairs),
        "" if math.isnan(reported) else f"{reported:+.2f}",
    ]


def _reported(ablation: Ablation, row: Variant, key: str) -> float:
    """The paper's difference to the baseline, which is one of the ablation's first metric; NaN = unknown."""
    return math.nan if row.reported is None or key != ablation.metrics[0] else row.reported


def _notes(ablation: Ablation, cells: Cells, over: str) -> list[str]:
    notes = [f"Points are hundredths. ± is the standard deviation over {over}s."]
    if len(ablation.rows) > 1:
        notes[0] += (
            f" Δ is the mean of the differences to the first row with the same {over} (same order of pictures, same "
            f"augmentation). A Δ is called clear if it comes from at least three {over}s and is at least twice its own "
            "standard deviation."
        )
    if ablation.source:
        notes.append(f"The paper's Δ: its {ablation.source}, single runs without spread, on its own data.")
    if cells:
        keys = ("data", "split", "pictures", "input_size", "measured_at", "boundary", "weights", "version")
        found = {key: dict.fromkeys(str(cell.protocol[key]) for cell in cells.values()) for key in keys}
        notes += [f"* {key}: {' or, in other runs, '.join(values)}" for key, values in found.items()]
        notes.append(f"* minutes a training: {statistics.median(c.seconds for c in cells.values()) / 60:.1f} (median)")
        losses = {name: c.protocol["loss"] for (name, _), c in cells.items()}
        notes += [f"* loss of {name}: {loss}" for name, loss in losses.items()]
    return [line for note in notes for line in ((note, "") if not note.startswith("*") else (note,))]


def _csv(cells: Cells, over: str) -> str:
    keys = sorted({key for cell in cells.values() for key in cell.metrics})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", over, "seconds", *keys])
    for (name, repeat), cell in cells.items():
        writer.writerow(
            [
                name,
                repeat,
                f"{cell.seconds:.0f}",
                *("" if math.isnan(cell.value(key)) else f"{cell.value(key):.6f}" for key in keys),
            ]
        )
    return text.getvalue()


def _repeats(cells: Cells, name: str) -> list[int]:
    return sorted(repeat for row, repeat in cells if row == name)


def _pairs(ablation: Ablation, cells: Cells, name: str, key: str) -> list[float]:
    """Differences to the baseline in points, for the seeds or folds that both have."""
    baseline = ablation.rows[0].name
    both = [repeat for repeat in _repeats(cells, name) if (baseline, repeat) in cells]
    return [100 * (cells[name, repeat].value(key) - cells[baseline, repeat].value(key)) for repeat in both]


def _difference(ablation: Ablation, cells: Cells, row: Variant, key: str) -> Difference:
    mean, spread = _spread(_pairs(ablation, cells, row.name, key))
    return Difference(name=row.name, mean=mean, spread=spread, reported=_reported(ablation, row, key))


def _spread(values: Sequence[float]) -> Measured:
    mean = statistics.fmean(values) if values else math.nan
    return mean, statistics.stdev(values) if len(values) > 1 and not math.isnan(mean) else math.nan


def _text(measured: Measured, signed: bool = False) -> str:
    mean, spread = measured
    if math.isnan(mean):
        return "–"
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    return text if math.isnan(spread) else f"{text} ± {spread:.2f}"


def _verdict(pairs: Sequence[float]) -> str:
    mean, spread = _spread(pairs)
    return "yes" if len(pairs) >= 3 and mean and abs(mean) >= 2 * spread else "no"
