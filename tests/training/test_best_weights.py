"""What is said when a training ends without weights that were measured as the best."""

import math

import pytest

from smalti.models.create import find_recipe
from smalti.settings import override
from smalti.training.run import Reporting, run
from smalti.training.task import SegmentationTask

TINY = {
    "weights": None, "config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8), "data.workers": 0,
    "data.options": {"size": (64, 96), "length": 4}, "training.epochs": 1, "training.steps_per_epoch": 1,
    "training.batch": 2, "training.precision": "float32", "training.validate_every": 1,
}  # fmt: skip


@pytest.mark.parametrize("every", [1, 2])  # the last epoch is validated, whatever is set
def test_a_validation_without_a_value_is_not_called_none(tmp_path, monkeypatch, every):
    validated = SegmentationTask.on_validation_epoch_end

    def without_value(task):
        validated(task)
        task.metrics["semantic.miou"] = math.nan

    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", without_value)
    lines = []
    recipe = override(find_recipe("sis_cnn.quick"), {**TINY, "training.validate_every": every})
    assert run(recipe, tmp_path / "run", reporting=Reporting(write=lines.append, version="test"))
    assert "no validation could measure semantic.miou; last.safetensors stands for the best" in lines
