"""Box AP: worked by hand (I10), a slow loop from the definition, and torchmetrics for COCO's."""

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou as oracle_iou

from smalti.containers import Instances
from smalti.labels import LabelSet
from smalti.metrics.boxes import COCO_KEYS, BoxAP, average_precision, box_iou

LABELS = LabelSet(names=("ground", "car", "person"), things=frozenset({"car", "person"}))


def instances(boxes, labels, **more):
    given = {name: torch.from_numpy(values) for name, values in more.items()}
    return Instances(boxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels), **given)


def test_i10_perfect_and_half_right():
    assert average_precision([(0.9, True), (0.8, True)], 2) == 1
    assert average_precision([(0.9, True), (0.8, True)], 2, eleven=True) == 1
    # Every other answer is right, the wrong one first: precision 1/2 at every recall.
    half = [(1 - k / 100, k % 2 == 1) for k in range(40)]
    assert average_precision(half, 20) == pytest.approx(0.5)
    assert average_precision(half, 20, eleven=True) == pytest.approx(0.5)
    assert average_precision([], 3) == 0
    assert average_precision([(0.5, False)], 0) is None


def test_a_curve_by_hand():
    """Right, wrong, right of 4: precision 1, 1/2, 2/3 at recall 1/4, 1/4, 1/2."""
    outcomes = [(0.9, True), (0.8, False), (0.7, True)]
    assert average_precision(outcomes, 4) == pytest.approx(0.25 * 1 + 0.25 * 2 / 3)
    assert average_precision(outcomes, 4, eleven=True) == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)


def random_boxes(rng, count):
    low = rng.uniform(0, 80, (count, 2))
    return np.concatenate([low, low + rng.uniform(5, 60, (count, 2))], 1).round()


def pictures(seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(12):
        true = random_boxes(rng, int(rng.integers(0, 6)))
        labels = rng.integers(1, 3, len(true))
        near = true[: len(true)] + rng.integers(-4, 5, true.shape)
        boxes = np.concatenate([near, near[: len(near) // 2], random_boxes(rng, 3)])
        kinds = np.concatenate([labels, labels[: len(near) // 2], rng.integers(1, 3, 3)])
        scores = rng.permutation(len(boxes)) / len(boxes) + rng.random() * 1e-3
        yield boxes, kinds, scores, true, labels, rng.random(len(true)) < 0.2


def slow(seed):
    """VOC's rules, answer by answer over all pictures."""
    found = {}
    for kind in (1, 2):
        answers, objects, seen = [], 0, set()
        data = list(pictures(seed))
        for number, (boxes, kinds, scores, _, labels, difficult) in enumerate(data):
            objects += int(((labels == kind) & ~difficult).sum())
            answers += [(scores[k], number, boxes[k]) for k in np.flatnonzero(kinds == kind)]
        right, curve = 0, []
        counted = 0
        for _, number, box in sorted(answers, key=lambda a: -a[0]):
            _, _, _, true, labels, difficult = data[number]
            own = np.flatnonzero(labels == kind)
            overlaps = [float(oracle_iou(torch.tensor(box[None]), torch.tensor(true[k][None]))) for k in own]
            best = int(np.argmax(overlaps)) if overlaps else -1
            if best >= 0 and overlaps[best] >= 0.5:
                if difficult[own[best]]:
                    continue
                hit = (number, best) not in seen
                seen.add((number, best))
            else:
                hit = False
            counted += 1
            right += hit
            curve.append((right / objects, right / counted))
        area, before = 0.0, 0.0
        for k, (recall, _) in enumerate(curve):
            area += (recall - before) * max(p for _, p in curve[k:])
            before = recall
        found[kind] = area
    return found


@pytest.mark.parametrize("seed", range(3))
def test_against_a_slow_loop(seed):
    ap = BoxAP(LABELS)
    for boxes, kinds, scores, true, labels, difficult in pictures(seed):
        ap.update(instances(boxes, kinds, scores=scores), instances(true, labels, difficult=difficult))
    found, expected = ap.metrics(), slow(seed)
    assert found["boxes.map50.car"] == pytest.approx(expected[1])
    assert found["boxes.map50.person"] == pytest.approx(expected[2])
    assert found["boxes.map50"] == pytest.approx((expected[1] + expected[2]) / 2)


def test_cocos_numbers_are_those_of_torchmetrics():
    ap = BoxAP(LABELS)
    oracle = MeanAveragePrecision(
        backend="faster_coco_eval", iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),
        rec_thresholds=np.linspace(0, 1, 101).tolist(),
    )  # fmt: skip
    for boxes, kinds, scores, true, labels, _ in pictures():
        ap.update(instances(boxes, kinds, scores=scores), instances(true, labels))
        oracle.update(
            [{"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(kinds), "scores": torch.from_numpy(scores)}],
            [{"boxes": torch.from_numpy(true), "labels": torch.from_numpy(labels)}],
        )
    found, expected = ap.metrics(), oracle.compute()
    for ours, theirs in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"), ("ap_small", "map_small"),
                         ("ar1", "mar_1"), ("ar100", "mar_100"), ("ar_medium", "mar_medium")):  # fmt: skip
        assert found[f"boxes.{ours}"] == pytest.approx(float(expected[theirs]), abs=1e-6), ours


@pytest.mark.parametrize("seed", range(3))
def test_cocos_numbers_are_those_of_pycocotools_digit_for_digit(seed):
    """With crowds, and with areas of masks that are smaller than their boxes."""
    rng = np.random.default_rng(seed)
    ap, images, truth, answers = BoxAP(LABELS), [], [], []
    for picture, (boxes, kinds, scores, true, labels, crowd) in enumerate(pictures(seed), start=1):
        areas = rng.uniform(0.3, 1, len(true)) * (true[:, 2:] - true[:, :2]).prod(1)
        ap.update(
            instances(boxes, kinds, scores=scores), instances(true, labels, crowd=crowd, areas=areas.astype(np.float32))
        )
        images.append({"id": picture, "width": 999, "height": 999})
        for box, label, is_crowd, area in zip(true, labels, crowd, areas.astype(np.float32), strict=True):
            truth.append(
                {**coco_entry(box, label, picture), "id": len(truth) + 1, "iscrowd": int(is_crowd), "area": area}
            )
        answers += [
            {**coco_entry(box, label, picture), "score": score}
            for box, label, score in zip(boxes, kinds, scores, strict=True)
        ]
    known = COCO()
    known.dataset = {"info": {}, "images": images, "annotations": truth, "categories": [{"id": 1}, {"id": 2}]}
    known.createIndex()
    oracle = COCOeval(known, known.loadRes(answers), "bbox")
    oracle.evaluate()
    oracle.accumulate()
    oracle.summarize()
    found = [ap.metrics()[f"boxes.{key}"] for key in COCO_KEYS]
    expected = [None if value < 0 else value for value in oracle.stats]
    assert found == pytest.approx(expected, abs=1e-12)
    assert expected[0] > 0.05


def crowded(count, seed=0):
    """Images with more boxes of a class than COCO counts: sorted by score, right ones and wrong ones."""
    rng = np.random.default_rng(seed)
    for _ in range(2):
        low = np.stack(np.meshgrid(np.arange(20), np.arange(-(-count // 20))), -1).reshape(-1, 2)[:count] * 14.0
        true = np.concatenate([low, low + rng.integers(6, 12, (count, 2))], 1)
        boxes = np.concatenate([true + rng.integers(-1, 2, true.shape), random_boxes(rng, 30)])
        yield boxes, rng.permutation(len(boxes)) / len(boxes), true


@pytest.mark.parametrize("max_objects", [None, 60, 1000])
def test_the_limit_of_objects_is_pycocotools_maxdets(max_objects):
    """The default suits the data: the most objects of an image; `ar1`, `ar10` and `ar100` keep COCO's meaning."""
    ap, images, truth, answers = BoxAP(LABELS, max_objects), [], [], []
    for number, (boxes, scores, true) in enumerate(crowded(120), start=1):
        kinds, labels = np.ones(len(boxes), int), np.ones(len(true), int)
        ap.update(instances(boxes, kinds, scores=scores), instances(true, labels))
        images.append({"id": number, "width": 999, "height": 999})
        for box in true:
            area = float((box[2:] - box[:2]).prod())
            truth.append({**coco_entry(box, 1, number), "id": len(truth) + 1, "iscrowd": 0, "area": area})
        answers += [{**coco_entry(box, 1, number), "score": score} for box, score in zip(boxes, scores, strict=True)]
    known = COCO()
    known.dataset = {"info": {}, "images": images, "annotations": truth, "categories": [{"id": 1}]}
    known.createIndex()
    oracle = COCOeval(known, known.loadRes(answers), "bbox")
    limit = max_objects or 120
    oracle.params.maxDets = sorted({1, 10, 100, limit})
    oracle.evaluate()
    oracle.accumulate()
    found, place = ap.metrics(), oracle.params.maxDets.index(limit)

    def mean(values):
        return pytest.approx(values[values > -1].mean(), abs=1e-12)

    precision, recall = oracle.eval["precision"][..., place], oracle.eval["recall"]
    assert found["boxes.ap"] == mean(precision[:, :, :, 0])
    assert found["boxes.ap50"] == mean(precision[0, :, :, 0])
    assert found["boxes.ap75"] == mean(precision[5, :, :, 0])
    assert found["boxes.ap_small"] == mean(precision[:, :, :, 1])
    assert found["boxes.ar_small"] == mean(recall[:, :, 1, place])
    for count in (1, 10, 100):
        assert found[f"boxes.ar{count}"] == mean(recall[:, :, 0, oracle.params.maxDets.index(count)])
    of_coco = oracle.eval["precision"][:, :, :, 0, oracle.params.maxDets.index(100)].mean()
    assert (found["boxes.ap"] > of_coco + 0.01) == (limit > 100)
    assert found["boxes.ap_large"] is None


def coco_entry(box, label, picture):
    left, top, right, bottom = (float(v) for v in box)
    return {"image_id": picture, "category_id": int(label), "bbox": [left, top, right - left, bottom - top]}


def test_boxes_without_truth_or_answers():
    ap = BoxAP(LABELS)
    assert set(ap.metrics().values()) == {None}
    nothing = instances(np.zeros((0, 4)), np.zeros(0, int), scores=np.zeros(0))
    ap.update(nothing, instances(np.array([[0.0, 0, 5, 5]]), np.array([1])))
    assert ap.metrics()["boxes.map50"] == ap.metrics()["boxes.ap"] == 0
    assert ap.metrics()["boxes.map50.person"] is None


def test_no_answers_where_sizes_are_missing():
    """Nothing is found of what is there, and nothing is said of sizes that are not there."""
    ap = BoxAP(LABELS)
    nothing = instances(np.zeros((0, 4)), np.zeros(0, int), scores=np.zeros(0))
    ap.update(nothing, instances(np.array([[0.0, 0, 200, 200]]), np.array([1])))
    found = ap.metrics()
    assert (found["boxes.ap"], found["boxes.ap_large"], found["boxes.ap_small"]) == (0, 0, None)


def test_half_is_enough():
    ap = BoxAP(LABELS)
    ap.update(instances(np.array([[0.0, 0, 10, 5]]), np.array([1]), scores=np.ones(1)),
              instances(np.array([[0.0, 0, 10, 10]]), np.array([1])))  # fmt: skip
    assert ap.metrics()["boxes.map50.car"] == ap.metrics()["boxes.ap50"] == pytest.approx(1)


def test_what_lies_in_a_crowd_is_not_wrong():
    ap = BoxAP(LABELS)
    found = np.array([[0.0, 0, 10, 10], [52.0, 52, 60, 60], [30.0, 30, 40, 40]])
    true, crowd = np.array([[0.0, 0, 10, 10], [50.0, 50, 99, 99]]), np.array([False, True])
    ap.update(instances(found[:2], np.array([1, 1]), scores=np.array([0.5, 0.9])),
              instances(true, np.array([1, 1]), crowd=crowd))  # fmt: skip
    assert ap.metrics()["boxes.map50.car"] == 1
    ap.update(
        instances(found[2:], np.array([1]), scores=np.array([0.9])), instances(true[1:], np.array([1]), crowd=crowd[1:])
    )
    assert ap.metrics()["boxes.map50.car"] == 0.5
    ap.update(instances(found[1:2], np.array([2]), scores=np.array([0.9])), instances(true, np.array([1, 2])))
    assert ap.metrics()["boxes.map50.person"] == 0  # no crowd, and of another class


def test_overlap_is_torchvisions():
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 5), random_boxes(rng, 9)
    expected = oracle_iou(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    for k in range(5):
        np.testing.assert_allclose(box_iou(a[k], b), expected[k])
