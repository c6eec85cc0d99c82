"""The report: one HTML file that opens offline, with every number's meaning beside it."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image
from torch import Tensor

from smalti.draw.heat import heat_map
from smalti.draw.legend import legend_entries
from smalti.draw.overlay import colorize, error_map, overlay
from smalti.evaluation.errors import PictureScore
from smalti.evaluation.plots import plot_confusion, plot_history, plot_risk_coverage, plot_trimap
from smalti.files import write_text
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.boundary import WIDTHS
from smalti.metrics.difficulty import COVERAGE, ErrorRanking

WIDEST = 520
"""Pictures are shrunk to this many pixels, so that a report stays small enough to send."""
CONFUSIONS = 6
MARKS = (b'<meta name="generator" content="smalti">', b"<h2>How this was measured</h2>")
"""One of these stands near the beginning of every report; the second also in those of earlier versions."""
HEADLINES = {
    "semantic.miou": ("mIoU", "overlap of answer and truth (intersection over union), averaged over the classes"),
    "semantic.pixel_accuracy": ("Pixel accuracy", "share of all counted pixels that got the right class"),
    "semantic.class_accuracy": (
        "Class accuracy",
        "share of right pixels within each true class, averaged over classes",
    ),
    "semantic.frequency_weighted_iou": ("Frequency-weighted IoU", "IoU averaged with each class's share of the pixels"),
    "boundary.miou_3": ("Boundary mIoU, 3 px", "mIoU over the pixels within 3 of a border of the truth"),
    "boundary.f1": ("Boundary F1", "of the regions' borders, found within 0.75 % of the picture's diagonal: harmonic "
                    "mean of precision and recall, averaged over the classes"),
    "boundary.iou": ("Boundary IoU", "IoU of the regions' rims, 2 % of the diagonal thick, averaged over the classes"),
    "panoptic.pq_things": ("PQ of things", "panoptic quality of the objects: how many are found, times how well they "
                           "overlap"),
    "instances.ap": ("Mask AP", "average precision of the objects' masks over IoU 0.50 to 0.95, as COCO measures"),
    "instances.ap50": ("Mask AP at 0.50", "the same where half of the union overlaps"),
    "instances.cityscapes_ap": ("Mask AP, Cityscapes", "the same by Cityscapes' rules: any number of objects, small "
                                "ones need not be found"),
    "boxes.map50": ("Box mAP at 0.50", "average precision of the boxes, averaged over the classes, as PASCAL VOC "
                    "measures since 2010"),
    "boxes.ap": ("Box AP", "the same over IoU 0.50 to 0.95, as COCO measures"),
    "edges.ods_f": ("Edge F", "of edges within 2 pixels of their place, at the threshold that is best for the split"),
    "distances.mae": ("Distance error", "mean error of the distance map on objects, whose range is 0 to 1"),
    "difficulty.auc": ("Difficulty AUC, coarse", "how surely the difficulty map finds the coarse answer's errors: 1 = "
                       "always, 0.5 = by chance"),
    "coarse.pixel_accuracy": ("Coarse alone", "pixel accuracy of the coarse branch by itself"),
    "fine.pixel_accuracy": ("Fine alone", "pixel accuracy of the fine branch by itself"),
    "oracle_gate.pixel_accuracy": ("Perfect gate", "share of pixels that the coarse or the fine branch has right: what "
                                   "a gate without mistakes would reach"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture with its truth and its answer; `score` is its own mean IoU."""

    name: str
    score: float | None
    picture: UInt8[np.ndarray, "height width 3"]
    truth: UInt8[np.ndarray, "height width"] | None
    prediction: UInt8[np.ndarray, "height width"] | None
    difficulty: Float[np.ndarray, "height width"] | None = None
    objects: Sequence[tuple[str, UInt8[np.ndarray, "height width 3"]]] = ()
    """Drawings of objects with their captions."""


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """Everything that a report shows; `history` may be empty, `reported` holds rows (what, ours, the paper's)."""

    title: str
    metrics: dict[str, Any]
    protocol: dict[str, Any]
    labels: LabelSet
    counts: Int64[Tensor, "classes answers"]
    history: Sequence[dict[str, float]] = ()
    best: tuple[Example, ...] = ()
    worst: tuple[Example, ...] = ()
    first: tuple[Example, ...] = ()
    """Where no picture has classes by which it could be best or worst."""
    reported: tuple[tuple[str, str, str], ...] = ()
    confidence: ErrorRanking | None = None
    difficulty: ErrorRanking | None = None
    doubtful: tuple[PictureScore, ...] = ()


def write_report(path: Path, content: ReportContent) -> None:
    """Writes the report, whole or not at all. Names from the data are escaped."""
    environment = Environment(
        loader=PackageLoader("smalti", "evaluation"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=content.title,
        headlines=_headlines(content),
        protocol={k.replace("_", " "): ", ".join(map(str, v)) if isinstance(v, list) else v
                  for k, v in content.protocol.items()},
        curves=_data_uri(plot_history(content.history)) if content.history else None,
        classes=_classes(content),
        absent=content.metrics.get("semantic.absent_classes", []),
        confusion=_data_uri(plot_confusion(content.counts, content.labels)),
        confusions=frequent_confusions(content.counts, content.labels),
        trimap=_data_uri(plot_trimap(_trimap(content.metrics), content.metrics.get("semantic.miou"))),
        groups=[("Best pictures", [_drawn(e, content.labels) for e in content.best]),
                ("Worst pictures", [_drawn(e, content.labels) for e in content.worst]),
                ("First pictures", [_drawn(e, content.labels) for e in content.first])],
        has_classes=bool(content.counts.any()),
        reported=content.reported,
        doubts=_data_uri(plot_risk_coverage(_rankings(content))) if _rankings(content) else None,
        doubts_in_words=_doubts_in_words(content),
        difficulty=content.difficulty is not None,
        objects=_objects(content.metrics),
        doubtful=[(s.name, f"{100 * (s.doubt or 0):.1f} %", "–" if s.pixel_accuracy is None
                   else f"{100 * (1 - s.pixel_accuracy):.1f} %") for s in content.doubtful],
    )  # fmt: skip
    write_text(path, page)


def is_report(path: Path) -> bool:
    """Whether a file is a report of this package."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2**16)
    except OSError:
        return False
    return any(mark in beginning for mark in MARKS)


def _headlines(content: ReportContent) -> list[tuple[str, str, str]]:
    """Of classes only if some picture has them: a network may answer boxes alone."""
    metrics, has_classes = content.metrics, bool(content.counts.any()) or "boxes.map50" not in content.metrics
    return [
        (name, "not measurable" if metrics.get(key) is None else f"{metrics[key]:.3f}", meaning)
        for key, (name, meaning) in HEADLINES.items()
        if (has_classes and (key in metrics or key.startswith("semantic.")))
        or (key in metrics and not key.startswith(("semantic.", "boundary.")))
    ]


def _objects(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    prefixes = {"instances.ap.": "mask AP", "boxes.map50.": "box AP at 0.50"}
    return [
        (f"{key.removeprefix(prefix)}, {what}", "no such object" if value is None else f"{value:.3f}")
        for prefix, what in prefixes.items()
        for key, value in metrics.items()
        if key.startswith(prefix)
    ]


def _trimap(metrics: dict[str, Any]) -> dict[int, float]:
    """MIoU by width of the band, where there are such pixels."""
    values = {width: metrics.get(f"boundary.miou_{width}") for width in WIDTHS}
    return {width: value for width, value in values.items() if value is not None}


def _rankings(content: ReportContent) -> dict[str, ErrorRanking]:
    found = {"most difficult": content.difficulty, "least confident": content.confidence}
    return {name: ranking for name, ranking in found.items() if ranking is not None and ranking.auc() is not None}


def _doubts_in_words(content: ReportContent) -> list[str]:
    lines = []
    for name, ranking in _rankings(content).items():
        pairs, kept = 100 * (ranking.auc() or 0), 100 * (ranking.accuracy_at(COVERAGE) or 0)
        lines.append(
            f"The {name} pixels first: so a pixel that is wrong in the final answer comes before a right one in "
            f"{pairs:.1f} % of all pairs. Without the {name} {100 * (1 - COVERAGE):.0f} % of the pixels, {kept:.1f} % "
            "are right."
        )
    return lines


def _classes(content: ReportContent) -> list[dict[str, Any]]:
    total = max(int(content.counts.sum()), 1)
    return [
        {
            "name": name,
            "color": _hex(content.labels.colors[k]),
            "iou": content.metrics.get(f"semantic.iou.{name}"),
            "accuracy": content.metrics.get(f"semantic.accuracy.{name}"),
            "share": 100 * int(content.counts[k].sum()) / total,
        }
        for k, name in enumerate(content.labels.names)
    ]


def frequent_confusions(counts: Int64[Tensor, "classes answers"], labels: LabelSet) -> list[str]:
    """The largest mistakes in words, by the share of the true class's pixels; classes under 0.01 % are left out."""
    names = [*labels.names, "nothing"]
    total, found = int(counts.sum()), []
    for row, true in enumerate(labels.names):
        pixels = int(counts[row].sum())
        if pixels < 1e-4 * total or pixels == 0:
            continue
        for column, answer in enumerate(names):
            if column != row and counts[row, column] > 0:
                found.append((int(counts[row, column]) / pixels, f"of {true} is taken for {answer}"))
    return [f"{100 * share:.1f} % {what}" for share, what in sorted(found, reverse=True)[:CONFUSIONS]]


def _drawn(example: Example, labels: LabelSet) -> dict[str, Any]:
    truth, prediction = example.truth, example.prediction
    views = [("picture", example.picture)]
    if truth is not None:
        views.append(("truth", colorize(truth, labels)))
    if prediction is not None:
        views.append(("prediction", overlay(example.picture, prediction, labels, 0.65)))
    if truth is not None and prediction is not None:
        wrong = float(np.mean((truth != prediction)[truth != IGNORED])) if (truth != IGNORED).any() else 0
        views.append((f"errors in red: {100 * wrong:.1f} %", error_map(example.picture, truth, prediction)))
    views += [*_difficulty_view(example), *example.objects]
    return {
        "name": example.name,
        "score": "" if example.score is None else f"mIoU {example.score:.3f}",
        "views": [(caption, _picture_uri(drawing)) for caption, drawing in views],
        "legend": _legend(truth, prediction, labels),
    }


def _difficulty_view(example: Example) -> list[tuple[str, UInt8[np.ndarray, "height width 3"]]]:
    if example.difficulty is None:
        return []
    drawn = heat_map(example.picture, example.difficulty)
    return [("difficulty: how likely coarse is wrong, dark 0 % to bright 100 %", drawn)]


def _legend(
    truth: UInt8[np.ndarray, "height width"] | None,
    prediction: UInt8[np.ndarray, "height width"] | None,
    labels: LabelSet,
) -> list[tuple[str, str]]:
    """The truth's classes with their shares of its pixels, then those that only the answer has."""
    entries = [] if truth is None else [(_hex(color), text) for text, color in legend_entries(truth, labels)]
    answered, true = (set() if m is None else set(np.unique(m).tolist()) for m in (prediction, truth))
    only = sorted(answered - true - {IGNORED})
    return entries + [(_hex(labels.colors[label]), f"{labels.names[label]} (answer only)") for label in only]


def _picture_uri(picture: UInt8[np.ndarray, "height width 3"]) -> str:
    image = Image.fromarray(picture)
    image.thumbnail((WIDEST, WIDEST))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=85)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _hex(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
