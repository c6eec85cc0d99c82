"""What the log says of an attention map."""

import csv
import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image

from smalti import checkpoint
from smalti.containers import Outputs, Targets
from smalti.models.create import create_model, find_recipe
from smalti.predict.folder import find_files, predict_files
from smalti.session import EvaluationOptions, evaluate, train
from smalti.settings import override
from smalti.training.attention import EVERY, AttentionWatch
from smalti.training.callbacks import read_history
from smalti.training.run import Reporting


def batch(attention):
    """Four pixels: coarse is right, right, wrong, and not to be judged; each as large as the watch looks."""

    def spread(values):
        return torch.tensor(values).repeat_interleave(EVERY, -1).repeat_interleave(EVERY, -2)

    coarse = spread([[[[1.0, 0.0, 0.0, 1.0]], [[0.0, 1.0, 1.0, 0.0]]]])
    labels = spread([[[0, 1, 0, 255]]])
    return Outputs(coarse=coarse, attention=spread([[[attention]]])), Targets(semantic=labels)


def test_means_by_hand():
    watch = AttentionWatch()
    watch.update(*batch([math.log(3), math.log(9), 0.0, 5.0]))  # A = 0.75, 0.9, 0.5
    found = watch.means()
    assert found["coarse_right"] == pytest.approx(2 / 3)
    assert found["attention_mean"] == pytest.approx((0.75 + 0.9 + 0.5) / 3)
    assert found["attention_where_wrong"] == pytest.approx(0.5)
    assert found["attention_auc"] == 1
    assert watch.remark() is None


def test_saturation_is_said():
    watch = AttentionWatch()
    watch.update(*batch([9.0, 9.0, 6.0, 0.0]))
    assert "trusted to 100 %" in watch.remark()


def test_without_attention_or_errors_there_is_nothing_to_say():
    watch = AttentionWatch()
    watch.update(Outputs(), Targets())
    assert watch.means() == {}
    assert watch.remark() is None
    outputs, targets = batch([1.0, 1.0, 1.0, 1.0])
    watch.update(outputs, Targets(semantic=torch.full_like(targets.semantic, 255)))
    assert watch.means() == {}
    watch.update(outputs, Targets(semantic=outputs.coarse.argmax(1)))
    assert math.isnan(watch.means()["attention_where_wrong"])
    assert math.isnan(watch.means()["attention_auc"])
    assert watch.remark() is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    changes = {
        "config.encoder": "resnet10t", "config.features": "dilated", "config.output_stride": 8, "config.width": 16,
        "weights": None, "data.workers": 0, "data.train": "train", "data.validation": "val", "training.batch": 2,
        "training.epochs": 2, "training.steps_per_epoch": 3, "training.validate_every": 1, "augmentation.crop": None,
    }  # fmt: skip
    recipe = override(find_recipe("ccfnet.stanford_background"), changes)
    out = tmp_path_factory.mktemp("runs") / "ccfnet"
    said = []
    recipe = override(recipe, {"data.set": "scenes", "data.options": {"size": (64, 96), "length": 4}})
    found = train(recipe, out=out, reporting=Reporting(write=said.append))
    return out, found, said


def test_history_log_and_curves_show_it(trained):
    out, _, said = trained
    rows = read_history(out / "history.csv")
    assert len(rows) == 2
    assert 0 <= rows[1]["attention_where_wrong"] <= 1
    assert any("coarse right" in line and "AUC" in line for line in said)
    assert (out / "curves.png").is_file()


def test_the_report_shows_difficulty(trained):
    out, found, _ = trained
    assert {"difficulty.auc", "difficulty.accuracy_at_90", "coarse.pixel_accuracy", "oracle_gate.pixel_accuracy"} <= (
        found.keys()
    )
    assert found["oracle_gate.pixel_accuracy"] >= max(found["coarse.pixel_accuracy"], found["fine.pixel_accuracy"])
    page = (out / "report.html").read_text()
    for text in ("Where it is unsure", "difficulty: how likely coarse is wrong", "Perfect gate", "look at these first"):
        assert text in page


def test_a_network_without_attention_says_so_once(trained, tmp_path):
    out, _, _ = trained
    model, card = checkpoint.load(out)

    plain = create_model("sis_cnn", classes=model.labels, encoder="resnet10t", widths=(8, 8, 8, 8))
    recipe = override(find_recipe("sis_cnn.quick"), {"config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8)})

    recipe = dataclasses.replace(recipe, config=plain.config)
    checkpoint.save(plain, dataclasses.replace(card, recipe=recipe), tmp_path / "best.safetensors")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "p.png")
    with pytest.raises(ValueError, match="does not know how difficult a pixel is"):
        predict_files(tmp_path, [tmp_path / "p.png"], tmp_path / "answers", "difficulty")
    found = evaluate(out, options=EvaluationOptions(changes={"config.refine_budget": 0.0}))
    assert found["semantic.pixel_accuracy"] == found["coarse.pixel_accuracy"]
    assert "fine.pixel_accuracy" not in found
    assert found["protocol"]["changed_since_training"] == "config.refine_budget=0.0"
    for key in ("config.fine_loss", "config.dropout", "config.semantic_loss.ohem", "training.epochs"):
        with pytest.raises(ValueError, match="cannot be changed after training"):
            evaluate(out, options=EvaluationOptions(changes={key: 1}))


def test_difficulty_is_predicted_and_ranks_pictures(trained, tmp_path):
    out, _, _ = trained
    for k in range(3):
        Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / f"p{k}.png")
    answers = tmp_path / "answers"
    assert predict_files(out, find_files([tmp_path], answers), answers, "difficulty") == []
    assert sorted(p.name for p in answers.iterdir()) == [
        "difficulty.csv", "p0_difficulty.jpg", "p1_difficulty.jpg", "p2_difficulty.jpg", "predictions.jsonl",
    ]  # fmt: skip
    rows = list(csv.DictReader((answers / "difficulty.csv").read_text().splitlines()))
    means = [float(row["mean_difficulty"]) for row in rows]
    assert means == sorted(means, reverse=True)
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    with Image.open(answers / "p0_difficulty.jpg") as drawn:
        assert drawn.size[0] == 240
