"""What of a recipe follows from the length of the training: warm-up, averaging, drops, validations, crops."""

import dataclasses

import pytest
import torch
from torchvision.tv_tensors import Image

from smalti.containers import Sample
from smalti.data.dataset import Dataset
from smalti.labels import LabelSet
from smalti.models.create import find_recipe, recipes
from smalti.recipe import TrainingRecipe
from smalti.settings import override
from smalti.training.crops import fitted_crop
from smalti.training.optimise import learning_rate_factor
from smalti.training.schedule import RunLength, check_schedule, ema_decay, warmup_steps

# Training images of each recipe's own data set, and the numbers of steps that its warm-up had before it was a share.
OWN_LENGTH = {
    "sis_cnn.camvid": (367, 150), "sis_cnn.camvid_whole": (367, 50), "sis_cnn.quick": (512, 20),
    "pac_deeplab.camvid": (367, 100), "pac_deeplab.camvid_half": (367, 50),
    "ccfnet.stanford_background": (572, 100), "ccfnet.stanford_background_short": (572, 100),
    "ccfnet.sift_flow": (2488, 100), "hourglass.scenes": (2048, 200), "hourglass.scenes_short": (1200, 50),
    "hourglass.kitti_light": (160, 100), "ivanet.scenes": (2048, 200), "ivanet.scenes_short": (1200, 50),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(recipes()))
def test_recipes_keep_their_schedule_at_their_own_length(name):
    recipe = find_recipe(name)
    images, warmup = OWN_LENGTH.get(name, (1000, 0))
    length, lines = RunLength.of(recipe, images), []
    assert warmup_steps(recipe.training, length.steps) == warmup
    assert ema_decay(recipe.training, length.steps) == recipe.training.ema
    check_schedule(recipe.training, length, lines.append)
    assert lines == []


def test_a_shortened_recipe_warms_up_and_averages_over_shares_of_its_steps():
    """28 images: 150 steps of warm-up in 56 steps, and an average over 200."""
    recipe = override(find_recipe("sis_cnn.camvid"), {"training.epochs": "8"})
    length, lines = RunLength.of(recipe, 28), []
    check_schedule(recipe.training, length, lines.append)
    assert length.steps == 56
    assert warmup_steps(recipe.training, 56) == 3
    assert learning_rate_factor(recipe.training, 56)(3) == 1.0
    assert ema_decay(recipe.training, 56) == pytest.approx(1 - 1 / 11.2)
    assert lines == [
        "note: training.ema=0.995 averages 200 steps, more than 20 % of 56 (training.ema_span): 0.911 is used"
    ]
    assert ema_decay(override(recipe, {"training.ema": "none"}).training, 56) is None
    assert ema_decay(recipe.training, 1) == 0


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"), [(0.1, 56, 6), (10, 56, 10), (1, 56, 1), (0, 56, 0), (20, 41, 20)]
)
def test_a_warm_up_is_a_share_or_a_number_of_steps(warmup, steps, expected):
    training = TrainingRecipe(warmup=warmup)
    assert warmup_steps(training, steps) == expected
    check_schedule(training, RunLength(steps=steps, epochs=1, steps_per_epoch=steps), pytest.fail)


@pytest.mark.parametrize("warmup", [150, 28, 0.5, 0.9])
def test_a_warm_up_of_half_of_the_training_is_refused(warmup):
    with pytest.raises(ValueError, match=r"of 56 steps.*share of all steps below 0.5"):
        check_schedule(TrainingRecipe(warmup=warmup), RunLength(steps=56, epochs=8, steps_per_epoch=7), print)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"validate_every": 3}, "does not divide 8 epochs: the last one is validated, too"),
        ({"validate_every": 9}, "does not divide 8 epochs"),
        ({"patience": 7}, "training.patience=7 cannot end this training earlier: it has 8 validations"),
        ({"patience": 1, "validate_every": None}, "it has 1 validations"),
        ({"steps": 100}, "training.steps=100 is never reached: 8 epochs of 7 steps end after 56"),
        ({"schedule": "step", "step_at": (0.5, 0.99)}, "training.step_at=0.99 has no effect in 56 steps"),
    ],
)
def test_what_has_no_effect_in_so_short_a_training_is_said(changes, note):
    lines = []
    recipe = override(find_recipe("sis_cnn.quick"), {"training.epochs": 8, "training.steps_per_epoch": 7})
    training = dataclasses.replace(recipe.training, ema=None, **changes)
    check_schedule(training, RunLength.of(dataclasses.replace(recipe, training=training), 28), lines.append)
    assert len(lines) == 1
    assert note in lines[0]


@pytest.mark.parametrize("changes", [{"warmup": -1}, {"ema": 1.0}, {"ema_span": 0.0}, {"step_at": (0.5, 1.0)}])
def test_numbers_out_of_range_are_named(changes):
    with pytest.raises(ValueError, match=f"training.{next(iter(changes))} must be"):
        TrainingRecipe(**changes)


class Sized(Dataset):
    """Images of these sizes."""

    name, split, labels = "sized", "train", LabelSet.of(2)

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def read(self, index):
        return Sample(image=Image(torch.zeros(3, *self.sizes[index], dtype=torch.uint8)), name=str(index))

    def sample_name(self, index):
        return str(index)

    def content_key(self, index):
        return None


@pytest.mark.parametrize(
    ("name", "changes", "sizes", "crop"),
    [
        ("sis_cnn.camvid", {"data.set": "folder"}, [(100, 130)], (128, 160)),
        ("sis_cnn.camvid", {"data.set": "folder"}, [(100, 130), (300, 90)], (288, 160)),  # not only the first one's
        ("sis_cnn.camvid", {"data.set": "folder"}, [(360, 480)], (288, 384)),
        ("sis_cnn.camvid", {"input.size": "96,128"}, [(96, 128)], (96, 128)),
        ("hourglass.scenes", {"data.set": "folder"}, [(100, 100), (2000, 3000)], (512, 512)),
        ("hourglass.scenes", {"data.set": "folder"}, [(400, 9000)], (384, 512)),
        ("hourglass.scenes", {"data.set": "folder"}, [(360, 480)], None),
        ("sis_cnn.quick", {}, [(64, 96)], (160, 224)),  # on its own data a recipe stays as it was written
        ("pac_deeplab.voc2012", {}, [(375, 500)], (513, 513)),
        ("ivanet.voc2012_300", {"data.set": "folder"}, [(2000, 3000)], None),  # stretched
    ],
)
def test_crops_follow_the_sizes_of_the_images(name, changes, sizes, crop):
    recipe = override(find_recipe(name), changes)
    fitted, note = fitted_crop(recipe, 32, Sized(*sizes))
    assert fitted == crop
    assert (note is None) == (crop == recipe.augmentation.crop)
    assert note is None or f"augmentation.crop={crop[0]},{crop[1]} is used" in note
