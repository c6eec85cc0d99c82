"""The one way to an answer: every command, page and report calls this `Predictor`."""

import contextlib
import logging
import threading
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, UInt, UInt8
from torch import Tensor

from smalti.containers import Predictions
from smalti.data.fit import fit_picture
from smalti.data.value_range import ValueRange, ValueSample, measure_range
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.predict.memory import check_whole, choose_tiles
from smalti.predict.pictures import Picture, picture_values, without_class
from smalti.predict.runtimes import Runtime, TorchRuntime
from smalti.predict.tiling import Tiles, predict_tiled
from smalti.predict.views import Views, predict_views
from smalti.recipe import InputPolicy

BYTES_PER_PIXEL = 4000
"""Of the input, that a network and its answer are assumed to take; a careful guess, not measured for each network. Only
tiles are chosen by it."""
ANSWER_BYTES = 10
"""For each class and pixel of the picture, that an answer takes at its peak: eleven classes were seen to take 110."""
WHOLE = 2**20
"""Pictures of so many pixels (1024 x 1024) fit wherever the package runs: memory is not asked for each of them."""
log = logging.getLogger("smalti")
_LARGE = threading.Lock()
"""Larger ones for which memory is asked take turns in a process, so that what one may take is not counted on twice."""


class Predictor:
    """Answers for pictures of any size, in each picture's own pixels.

    ```python
    predictor = smalti.load("runs/first")
    answer = predictor("photo.jpg")      # answer.semantic, answer.confidence, answer.labels.names
    ```

    `views` and `tiles` may be set: `predictor.views = Views(flip=True)`. `tiles="auto"`: the whole picture if memory
    allows, else the largest tiles that fit; networks whose input policy fixes the size see the whole picture always,
    unless tiles are asked for.

    `value_range` are the values of pictures deeper than 8 bits that become 0 and 255: that of the training, where the
    model was trained on such pictures. None = measured on each picture by itself, which is noted once in the log.
    """

    def __init__(self, model: SegmentationModel, policy: InputPolicy, runtime: Runtime | None = None) -> None:
        """`model` decodes what `runtime` computes (None = the model itself); `policy` says how pictures enter it."""
        self.model = model
        self.policy = policy
        self.runtime = runtime or TorchRuntime(model)
        self.views = Views()
        self.tiles: Tiles | Literal["auto"] | None = "auto"
        self.value_range: tuple[float, float] | None = policy.value_range
        self._has_noted_range = False

    @property
    def labels(self) -> LabelSet:
        """What the answers' label ids mean."""
        return self.model.labels

    @property
    def at_once(self) -> int:
        """Threads that may call it at a time, each with a picture of its own."""
        return self.runtime.at_once

    @torch.inference_mode()
    def __call__(self, picture: Picture) -> Predictions:
        """The answer for one picture; transparent pixels, and those of a GeoTIFF that are no data, get no class.

        Raises:
            ValueError: If it is no picture, has another number of channels than the network takes, or is too large for
                the memory that is left.
        """
        channels = self.model.in_channels
        image, visible = self._as_tensor(picture)
        if image.shape[0] != channels:
            raise ValueError(f"this network takes pictures with {channels} channels, got {image.shape[0]}")
        if self.views.scales != (1.0,) and self.policy.size is not None:
            raise ValueError(
                f"this network brings every picture to {max(self.policy.size)} pixels, so scales of views change "
                "nothing: leave them out, or change the input (--set input.size=…)"
            )
        with _LARGE if self.tiles == "auto" and _area(image) > WHOLE else contextlib.nullcontext():
            tiles = self._tiles_for(image)
            answer = self._viewed(image) if tiles is None else predict_tiled(self._viewed, image, tiles)
        return answer if visible is None else without_class(answer, ~torch.from_numpy(visible))

    def _as_tensor(
        self, picture: Picture
    ) -> tuple[UInt8[Tensor, "channels height width"], Bool[np.ndarray, "height width"] | None]:
        """The picture as the network takes it, and where it counts (None = everywhere)."""
        value_range = None if self.value_range is None else ValueRange(*self.value_range)
        values, visible = picture_values(picture, self.model.in_channels, value_range)
        if values.dtype != np.uint8:
            if value_range is None:
                value_range = measure_range([ValueSample.of(values)])
                self._note_range(values.dtype, value_range)
            values = value_range.to_8_bit(values)
        return torch.from_numpy(np.require(values, requirements=("C", "W"))), visible

    def _note_range(self, dtype: np.dtype, value_range: ValueRange) -> None:
        if not self._has_noted_range:
            self._has_noted_range = True
            log.warning(
                "a picture of %s values: %s become 0 to 255, measured on this picture alone, as for each that follows; "
                "set predictor.value_range = (LOW, HIGH) to have one range for all", dtype, value_range,
            )  # fmt: skip

    def _tiles_for(self, image: Tensor) -> Tiles | None:
        if self.tiles != "auto":
            return self.tiles
        if _area(image) <= WHOLE:
            return None
        size = int(image.shape[-2]), int(image.shape[-1])
        if self.policy.fit != "pad" or self.policy.size is not None:
            if "semantic" in self.model.needs:  # boxes alone take no memory to speak of
                check_whole(size, ANSWER_BYTES * len(self.labels))
            return None
        return choose_tiles(size, BYTES_PER_PIXEL * max(self.views.scales) ** 2)

    def _viewed(self, image: UInt[Tensor, "channels height width"]) -> Predictions:
        return predict_views(self._plain, image, self.views)

    def _plain(self, image: UInt[Tensor, "channels height width"]) -> Predictions:
        fitted, frame = fit_picture(image, self.policy, self.model.stride)
        return self.model.decode(self.runtime(fitted[None]), [frame])[0]


def _area(image: Tensor) -> int:
    return int(image.shape[-2] * image.shape[-1])
