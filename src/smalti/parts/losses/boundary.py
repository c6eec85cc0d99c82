"""Boundary-aware loss: cross-entropy that counts more near the borders of the labels (D. Yu, pac-bal, section 3.2).

A border map is blurred and a bias added (Eqs. 1 to 3); the result weighs each pixel's cross-entropy (Eq. 4). Everything
before the weighing is linear in the border maps of the classes, so these are summed first and blurred once: the cost
does not depend on the number of classes. The kernels have rank two, so that the blur is two products with narrow
matrices along each axis.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from smalti.parts.losses.classification import cross_entropy
from smalti.parts.losses.scored import IGNORED

WHOLE = (torch.uint8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True, kw_only=True)
class BoundaryWeights:
    """How much each pixel counts by its distance to the borders of the labels; the defaults are the paper's best.

    Called with labels it answers E_G, the weights. Units: `size` and `sigma` in pixels of the map that is `down` times
    smaller than the labels; `sigma` is the paper's, whose Gaussian exp(-d^2 / (size sigma)) has the standard deviation
    sqrt(size sigma / 2).
    """

    kernel: Literal["gaussian", "linear"] = "gaussian"
    size: int = 35
    sigma: float = 3.0
    """Of the Gaussian; the linear kernel has none."""
    beta: float = 0.5
    """What a pixel far from every border counts."""
    down: int = 4
    """The border map is made so many times smaller before the blur, and the blurred one as large again."""
    down_mode: Literal["area", "bilinear", "antialias"] = "area"
    scale: Literal["map_max", "none", "kernel_sum"] = "map_max"
    """`map_max`: the blurred map is divided by its maximum in each picture; `kernel_sum`: the kernel by its sum."""
    weight_norm: Literal["mean"] | None = None
    """`mean`: the weights of a picture are divided by their mean over its counted pixels."""
    ignored_edges: Literal["keep", "drop"] = "keep"
    """Whether a border between a class and ignored pixels is one."""
    flip: bool = False
    """Borders are marked below and right of where they are, not above and left: a true convolution with Eq. 2."""

    def __post_init__(self) -> None:
        """Raises ValueError for values that make no kernel or no weights."""
        for name, fits, range_ in (
            ("kernel", self.kernel in ("gaussian", "linear"), '"gaussian" or "linear"'),
            ("size", type(self.size) is int and self.size % 2 == 1 < self.size, "an odd number, 3 or more"),
            ("sigma", _is_number(self.sigma) and 0 < self.sigma < math.inf, "a number above 0"),
            ("beta", _is_number(self.beta) and 0 <= self.beta < math.inf, "a number >= 0"),
            ("down", type(self.down) is int and self.down >= 1, "a whole number, 1 or more"),
            ("down_mode", self.down_mode in ("area", "bilinear", "antialias"), '"area", "bilinear" or "antialias"'),
            ("scale", self.scale in ("map_max", "none", "kernel_sum"), '"map_max", "none" or "kernel_sum"'),
            ("weight_norm", self.weight_norm in (None, "mean"), 'None or "mean"'),
            ("ignored_edges", self.ignored_edges in ("keep", "drop"), '"keep" or "drop"'),
            ("flip", isinstance(self.flip, bool), "True or False"),
        ):
            if not fits:
                raise ValueError(f"boundary weights: {name} must be {range_}, got {getattr(self, name)!r}")

    def __str__(self) -> str:
        """The mode in words, for reports."""
        kernel = f"{self.kernel} {self.size}" + (f" sigma {self.sigma:g}" if self.kernel == "gaussian" else "")
        parts = [kernel, f"beta {self.beta:g}", f"down {self.down} {self.down_mode}", f"scale {self.scale}"]
        parts += ["divided by their mean"] if self.weight_norm == "mean" else []
        parts += ["borders of ignored pixels dropped"] if self.ignored_edges == "drop" else []
        parts += ["flipped"] if self.flip else []
        return ", ".join(parts)

    @torch.no_grad()
    def __call__(
        self,
        labels: Int[Tensor, "batch height width"],
        pad_mask: Bool[Tensor, "batch height width"] | None = None,
        ignored: int = IGNORED,
    ) -> Float[Tensor, "batch height width"]:
        """E_G: `beta` inside, more near borders; float32. Borders of what `pad_mask` marks (no picture there) are none.

        A picture without borders gets `beta` everywhere. With `scale="map_max"` the weights lie in [beta, 1 + beta].
        Class ids lie from 0 to 254, whatever `ignored` is.

        Raises:
            ValueError: If labels are no whole numbers of three axes, or `pad_mask` is no mask of their size.
        """
        if labels.ndim != 3 or not labels.numel() or labels.dtype not in WHOLE:
            raise ValueError(
                f"labels must be batch x height x width of whole numbers up to 255, got {_described(labels)}"
            )
        if pad_mask is not None and (pad_mask.shape != labels.shape or pad_mask.dtype != torch.bool):
            raise ValueError(
                f"pad_mask must be of True and False, as large as the labels {tuple(labels.shape)}, "
                f"got {_described(pad_mask)}"
            )
        borders = border_counts(labels, pad_mask, ignored, drop_ignored=self.ignored_edges == "drop", flip=self.flip)
        with torch.autocast(labels.device.type, enabled=False):
            blurred = self._blurred(borders.float())
        if self.scale == "map_max":
            # UNCLEAR: "kernels are normalised across 0 to 1". Read literally (scale="none") the weights at borders are
            # 9 to 36, with the learning rate unchanged; we bring the map to 0..1, which keeps the meaning of beta.
            most = blurred.amax((1, 2), keepdim=True)
            blurred = blurred / torch.where(most > 0, most, 1)
        weights = blurred + self.beta  # PAPER: Eq. 3
        return weights if self.weight_norm is None else weights / _mean_of_counted(weights, labels != ignored)

    def _blurred(self, borders: Float[Tensor, "batch height width"]) -> Float[Tensor, "batch height width"]:
        height, width = borders.shape[1:]
        # Sides that are no multiples of `down` are continued, so that the last cell is as large as the others.
        extra = (0, -width % self.down, 0, -height % self.down)
        small = self._smaller(F.pad(borders[:, None], extra, mode="replicate"))[:, 0]
        rows, columns = self._factors(small.shape[1], small), self._factors(small.shape[2], small)
        blurred = sum(row @ small @ column.T for row, column in zip(rows, reversed(columns), strict=True))
        assert isinstance(blurred, Tensor)
        # PAPER: as large again, bilinearly
        if self.down > 1:
            full = (height + extra[3], width + extra[1])
            blurred = F.interpolate(blurred[:, None], full, mode="bilinear", align_corners=False)[:, 0]
        return blurred[:, :height, :width].clamp_min(0)

    def _smaller(self, borders: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch 1 small_h small_w"]:
        if self.down == 1:
            return borders
        # DIFFERS: the paper resizes bilinearly, which at a factor of 4 looks at two pixels of four: half of all
        # straight borders vanish and the others count twice. The mean of all pixels treats every border alike.
        if self.down_mode == "area":
            return F.avg_pool2d(borders, self.down)
        size = [n // self.down for n in borders.shape[-2:]]
        antialias = self.down_mode == "antialias"
        return F.interpolate(borders, size, mode="bilinear", align_corners=False, antialias=antialias)

    def _factors(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Two matrices for an axis; the kernel is a x b + b x a, rows by columns."""
        place = torch.arange(length, device=like.device)
        distance = (place[:, None] - place).abs().clamp_max(self.size // 2 + 1)
        first, second = ((like.new_tensor([*line, 0.0]))[distance] for line in self._lines())
        return first, second

    def _lines(self) -> tuple[list[float], list[float]]:
        """The two factors of the kernel at the distances 0 to size // 2."""
        distances = range(self.size // 2 + 1)
        scale = 1 / self._kernel_sum() if self.scale == "kernel_sum" else 1.0
        if self.kernel == "linear":  # PAPER: Eq. 6, brought to 0..1: (n - 1 - |x| - |y|) / (n - 1)
            return [scale * (0.5 - d / (self.size - 1)) for d in distances], [1.0 for _ in distances]
        # PAPER: Eq. 5, brought to 0..1: (b x b - least) / (1 - least). With low^2 = least that is half of
        # (b - low) x (b + low) + (b + low) x (b - low), but for the denominator.
        low = math.sqrt(self._least())
        norm = math.sqrt(scale / (2 * (1 - self._least())))
        bell = [self._bell(d) for d in distances]
        return [norm * (b - low) for b in bell], [norm * (b + low) for b in bell]

    def _bell(self, distance: int) -> float:
        return math.exp(-(distance**2) / (self.size * self.sigma))

    def _least(self) -> float:
        """The Gaussian's value at its corner."""
        return self._bell(self.size // 2) ** 2

    def _kernel_sum(self) -> float:
        half = self.size // 2
        steps = range(-half, half + 1)
        if self.kernel == "linear":
            return self.size * sum(1 - 2 * abs(k) / (self.size - 1) for k in steps)
        line = sum(self._bell(k) for k in steps)
        return (line**2 - self._least() * self.size**2) / (1 - self._least())


@dataclass(frozen=True, kw_only=True)
class BoundaryAwareLoss:
    """Cross-entropy weighed by `BoundaryWeights`, summed and divided by the number of counted pixels (Eq. 4)."""

    weights: BoundaryWeights = field(default_factory=BoundaryWeights)

    def __call__(
        self,
        logits: Float[Tensor, "batch classes height width"],
        labels: Int[Tensor, "batch height width"],
        pad_mask: Bool[Tensor, "batch height width"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss; 255 is ignored, and 0 with zero gradient where every pixel is.

        Raises:
            ValueError: If logits and labels are of different size, or a label is no class of the logits.
        """
        return cross_entropy(logits, labels, pixel_weights=self.weights(labels, pad_mask))


def border_counts(
    labels: Int[Tensor, "batch height width"],
    pad_mask: Bool[Tensor, "batch height width"] | None = None,
    ignored: int = IGNORED,
    *,
    drop_ignored: bool = False,
    flip: bool = False,
) -> UInt8[Tensor, "batch height width"]:
    """The sum of Eq. 1's border maps over all classes.

    The filter of Eq. 2 answers 0 for a class exactly where a pixel, its right and its lower neighbour agree on that
    class; so the sum is 0 where the three labels agree and else the number of different classes among them.
    """
    # DIFFERS: TensorFlow's padding adds a row and a column of no class at the bottom and the right, which are false
    # borders; ours repeats the last ones.
    own = labels.masked_fill(labels == ignored, IGNORED).to(torch.uint8)  # bytes are quickly compared
    void = own == IGNORED
    right, lower = _neighbour(own, 2, flip), _neighbour(own, 1, flip)
    void_right, void_lower = _neighbour(void, 2, flip), _neighbour(void, 1, flip)
    other_right, other_lower = right != own, lower != own
    # UNCLEAR: ignored pixels are no class, but a class ends at them: in VOC a ring of them lies between every object
    # and the background, and without these borders there would be none.
    counts = (~void).to(torch.uint8)
    counts += other_right & ~void_right
    counts += other_lower & ~void_lower & (lower != right)
    no_border = ~(other_right | other_lower)
    if drop_ignored:
        no_border |= void | void_right | void_lower
    if pad_mask is not None:
        no_border |= pad_mask | _neighbour(pad_mask, 2, flip) | _neighbour(pad_mask, 1, flip)
    return counts.masked_fill_(no_border, 0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} of {tensor.dtype}"


def _neighbour(maps: Tensor, axis: int, flip: bool) -> Tensor:
    """Each pixel's right (axis 2) or lower (axis 1) neighbour, the other side if flipped; itself at the edge."""
    length = maps.shape[axis]
    if flip:
        return torch.cat([maps.narrow(axis, 0, 1), maps.narrow(axis, 0, length - 1)], axis)
    return torch.cat([maps.narrow(axis, 1, length - 1), maps.narrow(axis, length - 1, 1)], axis)


def _mean_of_counted(
    weights: Float[Tensor, "batch height width"], counted: Bool[Tensor, "batch height width"]
) -> Float[Tensor, "batch 1 1"]:
    pixels = counted.sum((1, 2), keepdim=True)
    mean = (weights * counted).sum((1, 2), keepdim=True) / pixels.clamp_min(1)
    return torch.where((pixels > 0) & (mean > 0), mean, 1)
