from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from smalti.containers import Instances, Predictions
from smalti.labels import LabelSet
from smalti.predict import stitching
from smalti.predict.tiling import Tiles, predict_tiled

LABELS = LabelSet(names=("road", "car", "truck"), things=frozenset({"car", "truck"}))
SMALL = Tiles(size=64, overlap=20)


def blobs(with_masks=True, with_scores=True):
    """What has colour is an object: red ones are cars, others trucks; the score is the share of red or green."""

    def predict(picture):
        ids, count = ndimage.label(picture.amax(0).numpy() > 0)
        picture = picture.float() / 255
        labels, scores = [], []
        for k in range(1, count + 1):
            red, green = (float(channel[torch.from_numpy(ids == k)].mean()) for channel in picture[:2])
            labels.append(1 if red > green else 2)
            scores.append(max(red, green))
        found = Instances.from_ids(ids.astype(np.int32), labels, scores if with_scores else None)
        return Predictions(labels=LABELS, instances=found if with_masks else replace(found, masks=None))

    return predict


def scene():
    """Objects inside tiles, over one seam, over a corner of four tiles, longer than a tile, and side by side."""
    picture = torch.zeros(3, 150, 240, dtype=torch.uint8)
    for channel, rows, columns in [
        (0, (5, 15), (5, 15)), (0, (20, 30), (40, 70)), (1, (40, 72), (30, 80)), (1, (100, 110), (8, 232)),
        (0, (90, 94), (50, 58)), (0, (96, 99), (50, 58)), (1, (2, 148), (234, 238)),
    ]:  # fmt: skip
        picture[channel, slice(*rows), slice(*columns)] = 200
    return picture


def as_set(found):
    rows = zip(found.labels.tolist(), found.boxes.tolist(), found.scores.tolist(), strict=True)
    return {(label, *box, round(score, 4)) for label, box, score in rows}


@pytest.mark.parametrize("with_masks", [True, False])
def test_objects_across_seams_come_out_once(with_masks):
    picture, predict = scene(), blobs(with_masks)
    whole, tiled = predict(picture).instances, predict_tiled(predict, picture, SMALL).instances
    assert len(tiled) == len(whole) == 7
    assert as_set(tiled) == as_set(whole)
    if with_masks:
        assert {m.numpy().tobytes() for m in tiled.masks} == {m.numpy().tobytes() for m in whole.masks}
    else:
        assert tiled.masks is None


def test_masks_stay_apart_and_scores_are_means_by_pixels():
    """The next tile is surer of the same object; each speaks for its own half of the seam."""
    picture = torch.zeros(3, 64, 96, dtype=torch.uint8)  # two tiles, 0 to 64 and 32 to 96, which meet at 48
    picture[0, 10:20, 24:84] = 100
    turns = iter((0.5, 0.9))

    def predict(tile):
        answer = blobs()(tile)
        return replace(answer, instances=replace(answer.instances, scores=torch.tensor([next(turns)])))

    found = predict_tiled(predict, picture, SMALL).instances
    assert found.boxes.tolist() == [[24, 10, 84, 20]]
    np.testing.assert_allclose(found.scores.numpy(), [(24 * 0.5 + 36 * 0.9) / 60], rtol=1e-6)


def test_what_only_the_border_of_a_tile_shows_is_nothing():
    picture, calls = torch.zeros(3, 64, 96, dtype=torch.uint8), iter(range(2))

    def predict(tile):
        seen = tile.clone()
        if next(calls) == 0:
            seen[0, 5:20, 52:60] = 100  # beyond the middle of the seam; the other tile does not see it
        return blobs(with_masks=False)(seen)

    assert len(predict_tiled(predict, picture, SMALL).instances) == 0


def test_no_objects_at_all():
    for with_masks in (True, False):
        found = predict_tiled(blobs(with_masks), torch.zeros(3, 100, 100, dtype=torch.uint8), SMALL).instances
        assert len(found) == 0
        assert found.boxes.shape == (0, 4)
        assert (found.masks is not None) == with_masks


def test_objects_without_scores():
    for with_masks in (True, False):
        found = predict_tiled(blobs(with_masks, with_scores=False), scene(), SMALL).instances
        assert len(found) == 7
        assert found.scores is None


def test_more_masks_than_memory(monkeypatch):
    monkeypatch.setattr(stitching, "MASK_BYTES", 3 * 150 * 240)
    with pytest.warns(UserWarning, match="7 objects of 150 x 240 pixels would fill the memory.*the 3 surest are kept"):
        assert len(predict_tiled(blobs(), scene(), SMALL).instances) == 3
