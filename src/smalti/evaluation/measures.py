"""All that is measured of a split, picture by picture; keeps counts, never logits."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from smalti.containers import Predictions, Sample
from smalti.evaluation.errors import PictureScore, doubt_correlation, score_picture
from smalti.evaluation.objects import ObjectMeasures
from smalti.geometry.distances import Norm
from smalti.labels import IGNORED, LabelSet
from smalti.metrics.boundary import BoundaryBands, BoundaryMatches
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.difficulty import COVERAGE, Cascade, ErrorRanking
from smalti.metrics.semantic import semantic_metrics


class Measures:
    """The numbers of a split.

    `confidence` ranks the answer's errors by how improbable its class is. Of a cascade, `difficulty` does so by the
    attention's map, `difficulty_of_coarse` ranks the errors of the coarse answer, for which that map was trained.
    """

    def __init__(self, labels: LabelSet, distance_norm: Norm = "instance", max_objects: int | None = None) -> None:
        """`max_objects` of an image and class that count in COCO's AP; None = as many as the truth needs."""
        self.labels = labels
        self.matrix = ConfusionMatrix(len(labels))
        self.bands = BoundaryBands(len(labels))
        self.borders = BoundaryMatches(labels)
        self.objects = ObjectMeasures(labels, distance_norm, max_objects)
        self.names: list[str] = []
        self.scores: list[PictureScore] = []
        self.confidence = ErrorRanking()
        self.difficulty: ErrorRanking | None = None
        self.difficulty_of_coarse = ErrorRanking()
        self.cascade = Cascade(labels)

    def update(self, answer: Predictions, sample: Sample) -> None:
        """Adds a picture with its truth."""
        self.names.append(sample.name)
        self.objects.update(answer, sample)
        if answer.semantic is not None and sample.semantic is not None:
            self._add_classes(answer, sample)

    def _add_classes(self, answer: Predictions, sample: Sample) -> None:
        assert answer.semantic is not None
        assert answer.confidence is not None
        classes, truth = answer.semantic.cpu().numpy(), true_labels(sample)
        self.borders.update(classes, truth)
        self.matrix.update(classes, truth)
        self.bands.update(classes, truth)
        counted = torch.from_numpy(truth != IGNORED)
        wrong = torch.from_numpy(classes != truth)[counted]
        self.confidence.update(1 - answer.confidence.cpu()[counted], wrong)
        doubt = 1 - answer.confidence if answer.difficulty is None else answer.difficulty
        if answer.difficulty is not None and answer.coarse is not None:
            coarse = answer.coarse.cpu().numpy()
            difficulty, coarse_wrong = answer.difficulty.cpu()[counted], torch.from_numpy(coarse != truth)[counted]
            self.difficulty = self.difficulty or ErrorRanking()
            self.difficulty.update(difficulty, wrong)
            self.difficulty_of_coarse.update(difficulty, coarse_wrong)
            self.cascade.update(coarse, None if answer.fine is None else answer.fine.cpu().numpy(), truth)
        self.scores.append(score_picture(sample.name, classes, truth, len(self.labels), float(doubt.mean())))

    def metrics(self) -> dict[str, Any]:
        """Flat metrics by key.

        Beside `semantic.*` and `boundary.*`: `confidence.auc` and `.accuracy_at_90` (of the 90 % most confident
        pixels); of a cascade `difficulty.auc` (finds the coarse answer's errors), `difficulty.answer_auc` (those of the
        final one), `difficulty.accuracy_at_90`, `.picture_correlation` and the accuracies of `Cascade`.
        """
        found: dict[str, Any] = semantic_metrics(self.matrix.counts, self.labels)
        found |= self.bands.metrics(self.labels) | self.borders.metrics() | self.objects.metrics()
        found |= {
            "confidence.auc": self.confidence.auc(),
            "confidence.accuracy_at_90": self.confidence.accuracy_at(COVERAGE),
        }
        if self.difficulty is not None:
            found |= {
                "difficulty.auc": self.difficulty_of_coarse.auc(),
                "difficulty.answer_auc": self.difficulty.auc(),
                "difficulty.accuracy_at_90": self.difficulty.accuracy_at(COVERAGE),
                "difficulty.picture_correlation": doubt_correlation(self.scores),
            }
            found |= self.cascade.metrics()
        return found


def true_labels(sample: Sample) -> UInt8[np.ndarray, "height width"]:
    """The classes of a sample that has some."""
    assert sample.semantic is not None
    truth: np.ndarray = sample.semantic.as_subclass(Tensor).numpy()
    return truth
