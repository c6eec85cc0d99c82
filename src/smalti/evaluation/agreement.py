"""How well an exported file agrees with the network it was made of, measured by running both."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from smalti.data.fit import fit_picture
from smalti.predict.predictor import Predictor

FLOAT_GATE, INT8_GATE = 0.1, 0.5
"""Points (hundredths) of the metric that an exported network may lose."""
EQUAL_LABELS = 0.999
"""Share of equal labels that a file in floating point must reach where no data says what a difference costs."""
GATED = ("semantic.miou", "boxes.map50")
"""The metric that decides: the first that both have."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was seen on pictures of odd sizes.

    `maximum_difference` is that of the network's bare answers (logits, box offsets), `scale` their largest absolute
    value; `equal_labels` the share of pixels with the same class, None for a network without classes of pixels.
    """

    pictures: int
    sizes: tuple[str, ...]
    maximum_difference: float
    scale: float
    equal_labels: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def compare(
    reference: Predictor, exported: Predictor, pictures: Iterable[UInt8[Tensor, "channels height width"]]
) -> Agreement:
    """Runs both on each picture."""
    difference = scale = 0.0
    equal = pixels = 0
    sizes: dict[str, None] = {}
    count = 0
    for picture in pictures:
        count += 1
        sizes[f"{picture.shape[1]}x{picture.shape[2]}"] = None
        batch = fit_picture(picture, reference.policy, reference.model.stride)[0][None]
        for wanted, got in zip(reference.runtime(batch), exported.runtime(batch), strict=True):
            if isinstance(wanted, Tensor):
                assert isinstance(got, Tensor)
                apart = float((wanted.float().cpu() - got.float().cpu()).abs().max())
                difference = max(difference, apart if math.isfinite(apart) else math.inf)  # max() would lose a NaN
                scale = max(scale, float(wanted.abs().max()))
        first, second = reference(picture).semantic, exported(picture).semantic
        if first is not None and second is not None:
            equal += int((first.cpu() == second.cpu()).sum())
            pixels += first.numel()
    return Agreement(
        pictures=count, sizes=tuple(sizes), maximum_difference=difference, scale=scale,
        equal_labels=equal / pixels if pixels else None,
    )  # fmt: skip


def odd_sizes(pictures: Iterable[UInt8[Tensor, "channels height width"]]) -> list[Tensor]:
    """The pictures, each cut a little differently, to odd numbers of pixels."""
    cut = []
    for k, picture in enumerate(pictures):
        rows, columns = (side - (7 * k) % (side // 3 + 1) for side in picture.shape[1:])
        rows, columns = rows - (rows % 2 == 0), columns - (columns % 2 == 0)
        cut.append(picture[:, :rows, :columns])
    return cut


def verdict(
    agreement: Agreement, precision: str, metrics: tuple[Mapping[str, Any], Mapping[str, Any]] | None
) -> tuple[bool, str]:
    """Whether the file may stand for the network, and why.

    `metrics` are the network's and the file's own on one data set; without them floating point is judged by its labels
    (or, without any, its bare answers), and 8 bits are not judged at all.
    """
    if metrics is not None:
        for key in GATED:
            if metrics[0].get(key) is not None and metrics[1].get(key) is not None:
                lost = 100 * (metrics[0][key] - metrics[1][key])
                gate = INT8_GATE if precision == "int8" else FLOAT_GATE
                return lost <= gate, f"{key} {100 * metrics[0][key]:.2f} and {100 * metrics[1][key]:.2f}: " \
                    f"{lost:+.2f} points lost, {gate} allowed"  # fmt: skip
    if precision == "int8":
        return True, "not judged: 8 bits are judged by a metric on a data set"
    if agreement.equal_labels is not None:
        share = agreement.equal_labels
        return share >= EQUAL_LABELS, f"{100 * share:.3f} % of the labels are equal, {100 * EQUAL_LABELS:.1f} % wanted"
    close = agreement.maximum_difference <= 1e-3 * max(agreement.scale, 1.0)
    return close, f"answers differ by {agreement.maximum_difference:.1e} at most, of {agreement.scale:.1e}"
