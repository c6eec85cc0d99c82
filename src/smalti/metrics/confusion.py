"""One matrix of counts over a whole set, from which every semantic number comes."""

import numpy as np
import torch
from jaxtyping import Int64, Integer
from torch import Tensor

from smalti.labels import IGNORED

Labels = Integer[Tensor, "..."] | Integer[np.ndarray, "..."]


class ConfusionMatrix:
    """How many pixels of each true class (row) were given each class (column); O(classes²) memory.

    The last column counts pixels without an answer: a predicted mask may have holes (255), and where the truth counts a
    hole is an error. Pixels whose truth is 255 are not counted.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts: Int64[Tensor, "classes answers"] = torch.zeros(classes, classes + 1, dtype=torch.int64)

    def update(self, predicted: Labels, true: Labels) -> None:
        """Adds the pixels of one or more pictures.

        Raises:
            ValueError: If the shapes differ, or there is a label that is neither a class nor 255.
        """
        answers, truth = torch.as_tensor(predicted), torch.as_tensor(true)
        if answers.shape != truth.shape:
            raise ValueError(f"prediction {tuple(answers.shape)} and truth {tuple(truth.shape)} must be of one size")
        counted = truth != IGNORED
        rows, columns = truth[counted].to(torch.int64), answers[counted].to(torch.int64)
        for what, labels in (("truth", rows), ("prediction", columns)):
            wrong = labels[((labels >= self.classes) & (labels != IGNORED)) | (labels < 0)]
            if wrong.numel():
                raise ValueError(f"the {what} has the label {int(wrong[0])}; there are {self.classes} classes, and 255")
        columns = torch.where(columns == IGNORED, self.classes, columns)
        cells = torch.bincount(rows * (self.classes + 1) + columns, minlength=self.counts.numel())
        self.counts += cells.view_as(self.counts)
