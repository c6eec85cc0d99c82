"""Cityscapes' AP against its own script, where that is installed, and against the numbers that it gave."""

import numpy as np
import pytest
from PIL import Image

from smalti.labels import LabelSet
from smalti.metrics.cityscapes_ap import CityscapesAP

LABELS = LabelSet(names=("road", "car", "person"), things=frozenset({"car", "person"}))
FILE_IDS = {"road": 7, "car": 26, "person": 24}
SIZE = (120, 160)
SCRIPT = (0.3434822104299514, 0.4983799573625714)
"""AP and AP50 of `scenes` by cityscapesScripts 2.3.0."""


def scenes():
    """Per picture: classes and ids of the truth; masks, classes, scores of the answer: shifted, doubled, invented."""
    rng = np.random.default_rng(3)
    for _ in range(6):
        classes, ids = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.int32)
        masks, labels, scores = [], [], []
        for number in range(1, 11):
            height, width = rng.integers(6, 40, 2)
            top, left = rng.integers(0, SIZE[0] - height), rng.integers(0, SIZE[1] - width)
            label = int(rng.integers(1, 3))
            region = np.s_[top : top + height, left : left + width]
            classes[region], ids[region] = label, number
            mask = np.zeros(SIZE, bool)
            mask[region] = True
            for shift in ((0, 0), (1, 2), (0, 4))[: int(rng.integers(0, 4))]:
                masks.append(np.roll(mask, shift, (0, 1)))
                labels.append(label)
                scores.append(round(float(rng.random()), 3))
        ids[100:, :60], classes[100:, :60] = 0, 1  # a group of cars
        classes[:20, 100:], ids[:20, 100:] = 255, 0
        yield classes, ids, np.array(masks), np.array(labels), np.array(scores)


def test_the_numbers_of_the_script():
    ap = CityscapesAP(LABELS)
    for classes, ids, masks, labels, scores in scenes():
        ap.update(masks, labels, scores, true_classes=classes, true_ids=ids)
    found = ap.metrics()
    assert found["instances.cityscapes_ap"] == pytest.approx(SCRIPT[0], abs=1e-9)
    assert found["instances.cityscapes_ap50"] == pytest.approx(SCRIPT[1], abs=1e-9)


def test_the_script_itself(tmp_path, monkeypatch):
    script = pytest.importorskip("cityscapesscripts.evaluation.evalInstanceLevelSemanticLabeling")
    from cityscapesscripts.evaluation.instance import Instance

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # which numpy 2.4 has no more
    script.args.quiet, script.args.instLabels = True, ["car", "person"]
    matches = {}
    for number, (classes, ids, masks, labels, scores) in enumerate(scenes()):
        file = np.full(SIZE, 0)
        for k, name in enumerate(LABELS.names):
            own = classes == k
            file[own] = np.where(ids[own] > 0, FILE_IDS[name] * 1000 + ids[own], FILE_IDS[name])
        answers = {}
        for k, (mask, label, score) in enumerate(zip(masks, labels, scores, strict=True)):
            path = tmp_path / f"{number}_{k}.png"
            Image.fromarray((255 * mask).astype(np.uint8)).save(path)
            answers[str(path)] = {"labelID": FILE_IDS[LABELS.names[label]], "conf": score}
        true = {"car": [], "person": []}
        for value in np.unique(file):
            name = {v: k for k, v in FILE_IDS.items()}.get(value // 1000 if value >= 1000 else value)
            if name in true:
                true[name].append(Instance(file, int(value)).toDict())
        ours, theirs = script.assignGt2Preds(true, file, answers, script.args)
        matches[number] = {"groundTruth": ours, "prediction": theirs}
    averages = script.computeAverages(script.evaluateMatches(matches, script.args), script.args)
    assert (averages["allAp"], averages["allAp50%"]) == pytest.approx(SCRIPT, abs=1e-9)


def test_without_truth_or_answers():
    ap = CityscapesAP(LABELS)
    assert ap.metrics() == {"instances.cityscapes_ap": None, "instances.cityscapes_ap50": None}
    none = np.zeros((0, 20, 20), bool), np.zeros(0, int), np.zeros(0)
    classes, ids = np.ones((20, 20), np.uint8), np.ones((20, 20), np.int32)
    ap.update(*none, true_classes=classes, true_ids=ids)
    assert ap.metrics()["instances.cityscapes_ap"] == 0
    ap = CityscapesAP(LABELS)
    ap.update(np.ones((1, 20, 20), bool), np.array([1]), np.array([0.5]), true_classes=classes, true_ids=ids)
    assert ap.metrics()["instances.cityscapes_ap50"] == pytest.approx(1)
