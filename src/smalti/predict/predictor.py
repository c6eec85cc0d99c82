"""The one way to an answer: every command, page and report calls this `Predictor`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from smalti import checkpoint
from smalti.checkpoint import Card
from smalti.containers import Predictions
from smalti.data.fit import fit_picture
from smalti.hardware import Precision, autocast, best_device
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.predict.pictures import Picture, as_tensor
from smalti.recipe import InputPolicy


class Predictor:
    """Answers for pictures of any size, in each picture's own pixels.

    ```python
    predictor = smalti.load("runs/first")
    answer = predictor("photo.jpg")      # answer.semantic, answer.confidence, answer.labels.names
    ```
    """

    def __init__(
        self,
        model: SegmentationModel,
        policy: InputPolicy,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
    ) -> None:
        """`policy` says how pictures enter the network; it comes from the checkpoint's recipe."""
        self.device = best_device() if device is None else torch.device(device)
        self.model: SegmentationModel = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.policy = policy
        self.precision: Precision = precision

    @property
    def labels(self) -> LabelSet:
        """What the answers' label ids mean."""
        return self.model.labels

    @torch.inference_mode()
    def __call__(self, picture: Picture) -> Predictions:
        """The answer for one picture.

        Raises:
            ValueError: If it is no picture, or has another number of channels than the network takes.
        """
        image = as_tensor(picture)
        fitted, frame = fit_picture(image, self.policy, self.model.stride)
        batch = fitted[None].to(self.device).contiguous(memory_format=torch.channels_last)
        with autocast(self.precision, self.device):
            outputs = self.model(batch)
        return self.model.decode(outputs, [frame])[0]


def load(
    path: str | Path,
    precision: Precision | None = None,
    device: torch.device | str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Predictor:
    """The predictor of a run folder (its best weights) or of a checkpoint file.

    `precision` None = as it was trained; `changes` are dotted keys of the recipe, for a network that is to answer in
    another way than it was trained, such as {"config.refine_budget": 0.25}.

    Raises:
        ValueError: If there is no checkpoint of this package, or a change that a trained network cannot make.
    """
    return load_with_card(path, precision, device, changes)[0]


def load_with_card(
    path: str | Path,
    precision: Precision | None = None,
    device: torch.device | str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> tuple[Predictor, Card]:
    """`load`, and what the checkpoint says of itself."""
    model, card = checkpoint.load(Path(path), changes)
    return Predictor(model, card.recipe.input, precision or card.recipe.training.precision, device), card
