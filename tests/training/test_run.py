"""Training runs on tiny scenes: what is in the run folder, interruption, resuming, and what must not be lost."""

import csv
import dataclasses
import json

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from smalti import checkpoint
from smalti.files import claimed
from smalti.labels import CAMVID
from smalti.models.create import build, find_recipe
from smalti.models.sis_cnn import SisCnn
from smalti.settings import override
from smalti.training import callbacks
from smalti.training.callbacks import COLUMNS, HISTORY, STATE, read_history
from smalti.training.datamodule import EpochSampler
from smalti.training.optimise import build_optimizer, learning_rate_factor
from smalti.training.preparation import open_splits
from smalti.training.run import Reporting, run
from smalti.training.task import SegmentationTask

TINY = {
    "weights": None,
    "config.encoder": "resnet10t",
    "config.widths": (8, 8, 8, 8, 8),
    "data.options": {"size": (64, 96), "length": 8},
    "data.workers": 0,
    "training.epochs": 2,
    "training.steps_per_epoch": 2,
    "training.batch": 4,
    "training.precision": "float32",
    "training.warmup": 1,
    "training.ema": 0.5,
}


@pytest.fixture
def tiny():
    def made(**changes):
        settings = {k.replace("__", "."): v for k, v in changes.items()}
        return override(find_recipe("sis_cnn.quick"), {**TINY, **settings})

    return made


@pytest.fixture
def quiet():
    lines = []
    return Reporting(write=lines.append, version="test"), lines


def tensors(path):
    return {k: v.clone() for k, v in checkpoint.load(path)[0].state_dict().items()}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    assert [k for k in a if not torch.equal(a[k], b[k])] == []


def test_the_run_folder(tiny, quiet, tmp_path):
    reporting, lines = quiet
    drawn = []
    out = tmp_path / "run"
    assert run(tiny(), out, reporting=dataclasses.replace(reporting, after_epoch=drawn.append))
    names = {p.name for p in out.iterdir() if p.is_file()}
    assert names == {
        "recipe.json",
        "labels.json",
        "used_images.json",
        HISTORY,
        "best.safetensors",
        "last.safetensors",
        STATE,
    }
    rows = list(csv.DictReader((out / HISTORY).read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [r["epoch"] for r in rows] == ["1", "2"]
    assert all(float(r["train_loss"]) > 0 and 0 <= float(r["miou"]) <= 1 for r in rows)
    assert drawn == [out, out]
    assert {p.name for p in (out / "examples").iterdir()} == {f"epoch_00{e}_{k}.png" for e in (1, 2) for k in (0, 1)}
    assert json.loads((out / "recipe.json").read_text())["training"]["epochs"] == 2
    assert json.loads((out / "labels.json").read_text())["classes"][0]["name"] == "sky"
    assert any("epoch 2/2" in line for line in lines)
    assert checkpoint.load(out)[1].version == "test"


def test_an_existing_folder_is_not_touched(tiny, quiet, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        run(tiny(), tmp_path, reporting=quiet[0])
    assert [p.name for p in tmp_path.iterdir()] == ["precious.txt"]


def interrupt_at(monkeypatch, step):
    """Ctrl-C while the loss of this training step is computed."""
    steps = []
    original = SisCnn.loss

    def loss(self, outputs, targets):
        if self.training:
            steps.append(1)
            if len(steps) == step:
                raise KeyboardInterrupt
        return original(self, outputs, targets)

    monkeypatch.setattr(SisCnn, "loss", loss)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_continued_run_is_bit_identical(tiny, quiet, tmp_path, workers):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    changes = {"training__epochs": 3, "data__workers": workers}
    run(tiny(**changes), whole, reporting=quiet[0])
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, step=4)
        assert not run(tiny(**changes), parts, reporting=quiet[0])
    assert len(read_history(parts / HISTORY)) == 1
    run(tiny(**changes), parts, resume=True, reporting=quiet[0])
    assert_equal(tensors(whole / "last.safetensors"), tensors(parts / "last.safetensors"))
    for a, b in zip(read_history(whole / HISTORY), read_history(parts / HISTORY), strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_resuming_another_recipe_is_refused(tiny, quiet, tmp_path):
    out = tmp_path / "run"
    run(tiny(training__epochs=1), out, reporting=quiet[0])
    with pytest.raises(ValueError, match=r"training.learning_rate=0.002, not 0.5"):
        run(tiny(training__learning_rate=0.5), out, resume=True, reporting=quiet[0])
    with pytest.raises(ValueError, match="nothing to resume"):
        run(tiny(), tmp_path / "other", resume=True, reporting=quiet[0])


def test_ctrl_c_leaves_a_usable_run(tiny, quiet, tmp_path, monkeypatch):
    reporting, lines = quiet
    interrupt_at(monkeypatch, step=2)
    out = tmp_path / "run"
    assert not run(tiny(), out, reporting=reporting)
    assert any("interrupted" in line for line in lines)
    assert checkpoint.load(out)[1].steps >= 1


def test_a_full_disk_leaves_the_last_good_checkpoint(tiny, quiet, tmp_path, monkeypatch):
    out = tmp_path / "run"
    original = checkpoint.save
    saves = []

    def save(model, card, path):
        saves.append(path.name)
        if card.epoch == 2:
            monkeypatch.setattr("safetensors.torch.save_file", full)
        original(model, card, path)

    def full(tensors, filename, metadata=None):
        filename.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(callbacks.checkpoint, "save", save)
    with pytest.raises(OSError, match="No space left"):
        run(tiny(), out, reporting=quiet[0])
    monkeypatch.undo()
    assert checkpoint.load(out)[1].epoch == 1
    assert not list(out.glob(".*part"))
    assert run(tiny(), out, resume=True, reporting=quiet[0])


def test_a_diverging_loss_stops_with_advice(tiny, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr(SisCnn, "loss", lambda self, o, t: {"semantic": o.semantic.sum() * float("nan")})
    with pytest.raises(FloatingPointError, match="lower training.learning_rate"):
        run(tiny(), tmp_path / "run", reporting=quiet[0])


@pytest.mark.slow
def test_patience_and_validate_every(tiny, quiet, tmp_path):
    run(
        tiny(training__learning_rate=0.0, training__epochs=9, training__steps_per_epoch=1, training__patience=2),
        tmp_path / "a",
        reporting=quiet[0],
    )
    assert len(read_history(tmp_path / "a" / HISTORY)) < 9
    run(tiny(training__epochs=3, training__validate_every=3), tmp_path / "b", reporting=quiet[0])
    assert [np.isnan(r["miou"]) for r in read_history(tmp_path / "b" / HISTORY)] == [True, True, False]


def test_an_unknown_monitor_is_named(tiny, quiet, tmp_path):
    with pytest.raises(ValueError, match="semantic.mean"):
        run(tiny(training__monitor="semantic.mean"), tmp_path / "run", reporting=quiet[0])


@pytest.mark.filterwarnings("ignore:Found .* in eval mode")
def test_accumulation_equals_one_large_batch(tiny, quiet, tmp_path):
    """Without batch normalisation's running state: two halves of a batch give the gradient of the whole."""
    plain = {"training__ema": None, "training__clip": None, "training__epochs": 1, "training__steps_per_epoch": 1,
             "training__optimizer": "sgd", "training__learning_rate": 1.0, "training__encoder_learning_rate": 1.0,
             "training__precision": "float32", "training__warmup": 0, "config__semantic_loss__lovasz": 0.0,
             "augmentation__scale": (1.0, 1.0)}  # fmt: skip

    class Still(SisCnn):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    results = []
    for batch, accumulate in ((4, 1), (2, 2)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("smalti.models.sis_cnn.SisCnn", Still)
            out = tmp_path / f"{batch}"
            changes = {**plain, "training__batch": batch, "training__accumulate": accumulate}
            run(tiny(**changes), out, reporting=quiet[0])
        results.append(tensors(out / "last.safetensors"))
    # At a rate of 1 the weights moved by the gradient itself: a wrong factor would show.
    lightning.seed_everything(0, verbose=False)
    started = build(SisCnn, tiny(**plain).config, CAMVID, None).state_dict()
    moved = max(float((results[0][name] - started[name]).abs().max()) for name in results[0])
    assert moved > 0.05
    for name in results[0]:
        torch.testing.assert_close(results[0][name], results[1][name], atol=2e-2 * moved, rtol=0)


def test_the_stream_shows_every_picture_equally_often():
    sampler = EpochSampler(length=7, draws=10, seed=3)
    seen = []
    for epoch in range(7):
        sampler.set_epoch(epoch)
        seen += list(sampler)
    assert sorted(seen) == sorted((p, i) for p in range(10) for i in range(7))
    sampler.set_epoch(4)
    assert list(sampler) == seen[40:50]


def test_several_processes_share_the_stream():
    alone = EpochSampler(length=7, draws=12, seed=0)
    shared = [EpochSampler(length=7, draws=6, seed=0, rank=r, ranks=2) for r in range(2)]
    assert sorted(alone) == sorted([*shared[0], *shared[1]])


@pytest.mark.parametrize(
    ("changes", "at", "expected"),
    [
        ({"schedule": "poly", "warmup": 0}, 50, 0.5**0.9),
        ({"schedule": "cosine", "warmup": 0}, 50, 0.5),
        ({"schedule": "cosine", "warmup": 0}, 100, 0.0),
        ({"schedule": "step", "warmup": 0}, 59, 1.0),
        ({"schedule": "step", "warmup": 0}, 60, 0.1),
        ({"schedule": "step", "warmup": 0}, 85, 0.01),
        ({"schedule": "constant", "warmup": 10}, 4, 0.5),
        ({"schedule": "poly", "warmup": 10}, 10, 1.0),
    ],
)
def test_schedules(tiny, changes, at, expected):
    recipe = tiny(**{f"training__{k}": v for k, v in changes.items()}).training
    assert learning_rate_factor(recipe, 100)(at) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_two_learning_rates_and_no_decay_of_normalisations(tiny, name):
    recipe = tiny(training__optimizer=name, training__encoder_learning_rate=1e-4, training__learning_rate=1e-3).training
    from smalti import create_model

    model = create_model("sis_cnn", classes=2, encoder="resnet10t", widths=(8, 8, 8, 8))
    optimizer = build_optimizer(model, recipe)
    encoder = {id(p) for p in model.encoder.parameters()}
    counted = 0
    for group in optimizer.param_groups:
        for p in group["params"]:
            counted += 1
            assert group["lr"] == (1e-4 if id(p) in encoder else 1e-3)
            assert group["weight_decay"] == (recipe.weight_decay if p.ndim > 1 else 0)
    assert counted == len(list(model.parameters()))


def test_a_limit_of_steps_ends_the_training(tiny, quiet, tmp_path):
    run(tiny(training__epochs=5, training__steps=3), tmp_path / "run", reporting=quiet[0])
    assert checkpoint.load(tmp_path / "run")[1].steps == 3
    assert len(read_history(tmp_path / "run" / HISTORY)) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named_in_one_line_and_the_folder_stays_free(tiny, quiet, tmp_path, workers):
    write_folder(tmp_path / "data")
    (tmp_path / "data" / "images" / "3.png").write_bytes(b"")
    (tmp_path / "data" / "images" / "4.png").write_bytes(b"")
    options = {"validation": 0.0, "test": 0.0}
    recipe = override(tiny(data__workers=workers), {"data.set": "folder", "data.root": str(tmp_path / "data")})
    data = dataclasses.replace(recipe.data, options=options, validation="all", train="all")
    out = tmp_path / "run"
    for _ in range(2):  # the second time it may use the same folder
        with pytest.raises(ValueError, match=r"[34]\.png") as caught:
            run(dataclasses.replace(recipe, data=data), out, reporting=quiet[0])
        assert len(str(caught.value).splitlines()) == 1


def test_no_weights_no_folder(tiny, quiet, tmp_path, monkeypatch):
    monkeypatch.delenv("SMALTI_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="Four ways"):
        run(tiny(weights="imagenet"), tmp_path / "run", reporting=quiet[0])
    assert not (tmp_path / "run").exists()


def write_folder(root):
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for k in range(8):
        Image.fromarray(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(root / "images" / f"{k}.png")
        Image.fromarray(generator.integers(0, 2, (64, 96), dtype=np.uint8)).save(root / "masks" / f"{k}.png")


def test_stopped_in_the_first_epoch_it_begins_anew(tiny, quiet, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    recipe, out = tiny(), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("smalti.training.task.SegmentationTask.training_step", stop)
        assert not run(recipe, out, reporting=quiet[0])
    assert "--resume begins the first epoch anew" in quiet[1][-1]
    assert (out / "last.safetensors").is_file()
    assert run(recipe, out, resume=True, reporting=quiet[0])
    run(recipe, tmp_path / "other", reporting=quiet[0])
    assert_equal(tensors(out / "last.safetensors"), tensors(tmp_path / "other" / "last.safetensors"))


def test_pictures_are_learned_at_the_scale_they_are_predicted_at(tiny):
    train, validation = open_splits(tiny(input__size=(32, 48)))
    assert train.read(0).size == (32, 48)
    assert validation.read(0).size == (64, 96)
    assert train.content_key(0) != open_splits(tiny())[0].content_key(0)


def test_large_images_are_cropped_and_said(tiny, quiet, tmp_path, monkeypatch):
    monkeypatch.setattr("smalti.training.crops.MAX_WHOLE_BATCH_PIXELS", 100)
    monkeypatch.setattr("smalti.training.crops.CROP_SIDE", 64)
    run(tiny(augmentation__crop=None), tmp_path / "run", reporting=quiet[0])
    assert any("--set input.size=HEIGHT,WIDTH makes images smaller" in line for line in quiet[1])
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["augmentation"]["crop"] == [64, 64]


@pytest.mark.parametrize(("every", "validated"), [(9, [False, False, True]), (2, [False, True, True])])
def test_the_last_epoch_is_always_validated(tiny, quiet, tmp_path, every, validated):
    """A schedule ends with the last epoch; a training shorter than validate_every was never validated."""
    run(
        tiny(training__epochs=3, training__steps_per_epoch=1, training__validate_every=every),
        tmp_path,
        reporting=quiet[0],
    )
    assert [not np.isnan(row["miou"]) for row in read_history(tmp_path / HISTORY)] == validated


def test_a_loss_is_the_better_the_lower(tiny, quiet, tmp_path):
    """The validation loss of the second epoch is made worse: the first one's weights stay the best."""
    out = tmp_path / "run"
    changes = {"training__monitor": "validation_loss", "training__epochs": 2, "training__learning_rate": 1e-6}
    real = SegmentationTask.on_validation_epoch_end

    def worse(task):
        real(task)
        task.metrics["validation_loss"] += task.current_epoch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SegmentationTask, "on_validation_epoch_end", worse)
        run(tiny(**changes), out, reporting=quiet[0])
    assert checkpoint.load(out)[1].epoch == 1


def test_other_classes_are_not_resumed(tiny, quiet, tmp_path):
    out = tmp_path / "run"
    run(tiny(), out, reporting=quiet[0])
    table = json.loads((out / "labels.json").read_text())
    table["classes"][0]["name"] = "heaven"
    (out / "labels.json").write_text(json.dumps(table))
    with pytest.raises(ValueError, match="was trained with other classes"):
        run(tiny(), out, resume=True, reporting=quiet[0])
    assert "heaven" in (out / "labels.json").read_text()


@pytest.mark.parametrize("key", ["epochs", "batch", "accumulate", "learning_rate", "steps"])
def test_numbers_that_make_no_training_are_named(tiny, key):
    with pytest.raises(ValueError, match=f"training.{key} must be"):
        tiny(**{f"training__{key}": -1})


def test_a_batch_of_one_says_what_to_do(tiny, quiet, tmp_path):
    changes = {"training__batch": 1, "config__context": "pyramid_pooling"}
    with pytest.raises(ValueError, match="set training.batch=2 or more"):
        run(tiny(**changes), tmp_path / "run", reporting=quiet[0])


def test_the_last_validation_is_what_evaluation_measures(tiny, quiet, tmp_path):
    """Pictures of unlike sizes: none is answered otherwise for its neighbours."""
    from fake_datasets import FolderShape, index_mask, picture, save
    from smalti.evaluation.run import evaluate_checkpoint

    shape = FolderShape()
    for k, stem in enumerate(shape.stems):
        size = (40 + 8 * k, 100 - 7 * k)
        save(tmp_path / "data" / "images" / f"{stem}.png", picture(k, size))
        save(tmp_path / "data" / "masks" / f"{stem}.png", index_mask(k, [0, 1, 2], size))
    data = {"data__set": "folder", "data__root": str(tmp_path / "data"), "data__options": {"validation": 0.5}}
    run(tiny(**data, config__context="pyramid_pooling"), tmp_path / "run", reporting=quiet[0])
    found = evaluate_checkpoint(tmp_path / "run" / "last.safetensors", f"folder={tmp_path / 'data'}", "val")
    last = read_history(tmp_path / "run" / HISTORY)[-1]
    assert found.metrics["semantic.miou"] == pytest.approx(last["miou"], rel=1e-4)
    assert found.metrics["semantic.pixel_accuracy"] == pytest.approx(last["pixel_accuracy"], rel=1e-4)


def test_a_folder_that_another_process_trains_in(tiny, tmp_path):
    with claimed(tmp_path / "run"), pytest.raises(ValueError, match="in use: another command or thread"):
        run(tiny(), tmp_path / "run")


def test_a_card_that_could_not_be_written_is_an_error_before_training(tiny, quiet, tmp_path):
    recipe = tiny(data__options={"size": (64, 96), "length": np.int64(8)})  # JSON has no number of this type
    with pytest.raises(ValueError, match="checkpoint could not be loaded again: .*int64"):
        run(recipe, tmp_path / "run", reporting=quiet[0])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"name": "x",}', "recipe.json: is broken JSON at line 1, column 1.: remove the comma"),
        ("[]", "recipe.json: not a recipe: must be an object"),
        ('{"name": "x", "model": "sis_cnn", "config": {"widths": "8"}, "data": {"set": "scenes"}}',
         "recipe.json: not a recipe: config of sis_cnn: widths: must be a list of values"),
    ],
)  # fmt: skip
def test_a_damaged_recipe_is_named_when_a_run_is_continued(tiny, tmp_path, text, message):
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        run(tiny(), tmp_path, resume=True)


@pytest.mark.parametrize("text", ["epoch,miou\n1,good\n", "epoch,miou\n1,2,3\n"])
def test_a_damaged_history_is_named(tmp_path, text):
    (tmp_path / HISTORY).write_text(text)
    with pytest.raises(ValueError, match="history.csv: not the history of a run"):
        read_history(tmp_path / HISTORY)
