"""Answers that do not flicker: class probabilities averaged over the frames of a scene."""

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from smalti.containers import ClassScores, Predictions
from smalti.predict.writers import NoSuchAnswerError

CUT = 30.0
"""Mean difference of grey values (0 to 255) between two frames above which they are of two scenes.

Unrelated photographs of VOC differ by 38 (first percentile) to 65 (median), CamVid's frames by 22 in a whole second.
"""
_SMALL = (32, 32)


class Cuts:
    """Tells where a scene ends: the frame differs from the one before as a whole, and not by something that moves."""

    def __init__(self) -> None:
        self._before: UInt8[np.ndarray, "rows columns"] | None = None

    def __call__(self, picture: UInt8[np.ndarray, "height width 3"]) -> bool:
        """Whether a scene begins with this frame; the first one begins one."""
        small = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), _SMALL, interpolation=cv2.INTER_AREA)
        before, self._before = self._before, small
        return before is None or float(cv2.absdiff(small, before).mean()) > CUT


class Smoothing:
    """Exponential moving average of the class probabilities; keeps one map of them, however long the video is."""

    def __init__(self, weight: float) -> None:
        """`weight` of what was answered before, from 0 (each frame by itself) to below 1."""
        self.weight = weight
        self._mean: Float[Tensor, "classes height width"] | None = None

    def __call__(self, answer: Predictions, begins: bool) -> Predictions:
        """The answer with averaged probabilities, and the classes that follow from them; `begins` = forget the past.

        Raises:
            NoSuchAnswerError: If the network gives no probabilities.
        """
        if answer.probabilities is None:
            raise NoSuchAnswerError("smoothing averages the probabilities of classes, and this network answers none: "
                                    "leave smoothing out")  # fmt: skip
        if self._mean is None or begins:
            self._mean = answer.probabilities
        else:
            self._mean = self._mean.lerp(answer.probabilities, 1 - self.weight)
        scores = ClassScores.of(self._mean)
        return replace(answer, semantic=scores.most_probable(), scores=scores)
