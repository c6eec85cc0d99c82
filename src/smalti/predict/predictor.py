"""The one way to an answer: every command, page and report calls this `Predictor`."""

import torch

from smalti.containers import Predictions
from smalti.data.fit import fit_picture
from smalti.labels import LabelSet
from smalti.models.contract import SegmentationModel
from smalti.predict.pictures import Picture, as_tensor
from smalti.predict.runtimes import Runtime, TorchRuntime
from smalti.recipe import InputPolicy


class Predictor:
    """Answers for pictures of any size, in each picture's own pixels.

    ```python
    predictor = smalti.load("runs/first")
    answer = predictor("photo.jpg")      # answer.semantic, answer.confidence, answer.labels.names
    ```
    """

    def __init__(self, model: SegmentationModel, policy: InputPolicy, runtime: Runtime | None = None) -> None:
        """`model` decodes what `runtime` computes (None = the model itself); `policy` says how pictures enter it."""
        self.model = model
        self.policy = policy
        self.runtime = runtime or TorchRuntime(model)

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
        if image.shape[0] != self.model.in_channels:
            raise ValueError(
                f"this network takes pictures with {self.model.in_channels} channels, got {image.shape[0]}"
            )
        fitted, frame = fit_picture(image, self.policy, self.model.stride)
        return self.model.decode(self.runtime(fitted[None]), [frame])[0]
