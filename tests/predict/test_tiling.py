from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from smalti.containers import ClassScores, Predictions
from smalti.labels import LabelSet
from smalti.predict.tiling import Blend, Tiles, all_tiles, place_tiles, predict_tiled
from smalti.predict.views import Views, predict_views

LABELS = LabelSet(names=("road", "car", "truck"), things=frozenset({"car", "truck"}))
SMALL = Tiles(size=64, overlap=20)
some_tiles = st.sampled_from((64, 96, 128, 192)).flatmap(
    lambda size: st.builds(Tiles, size=st.just(size), overlap=st.integers(0, size // 3))
)


def answer_of(logits, **others):
    scores = ClassScores(logits)
    return Predictions(labels=LABELS, semantic=scores.most_probable(), scores=scores, **others)


def noise(*size):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8))


@given(length=st.integers(1, 2000), tiles=some_tiles)
def test_tiles_cover_an_axis(length, tiles):
    spans = place_tiles(length, tiles)
    *others, last = spans
    assert all(span.stop - span.start == tiles.size for span in others)
    assert min(length, tiles.size - 31) <= last.stop - last.start <= tiles.size
    assert all(span.start % 32 == 0 for span in spans)
    assert (spans[0].start, spans[0].enter, spans[-1].stop, spans[-1].leave) == (0, 0, length, length)
    for one, other in pairwise(spans):
        assert one.start < other.start
        assert one.stop - other.start >= tiles.overlap
        # They blend where both see something, and a third has no say there.
        assert other.start <= one.leave == other.enter <= one.left == other.entered <= one.stop
        assert one.entered <= one.leave


def fades(length, tiles):
    """Weights of each tile along an axis, from the definition."""
    weights = np.zeros((len(place_tiles(length, tiles)), length))
    for weight, span in zip(weights, place_tiles(length, tiles), strict=True):
        x = np.arange(length) + 0.5
        rise = (x - span.enter) / max(span.entered - span.enter, 1e-9)
        fall = (span.left - x) / max(span.left - span.leave, 1e-9)
        weight[:] = np.prod([(1 - np.cos(np.pi * np.clip(part, 0, 1))) / 2 for part in (rise, fall)], 0)
    return weights


@settings(deadline=None, max_examples=30)
@given(size=st.tuples(st.integers(1, 200), st.integers(1, 200)), tiles=some_tiles)
def test_weights_add_up_to_one_at_every_pixel(size, tiles):
    places = all_tiles(size, tiles)
    blend, blended = Blend(size[1], tiles), torch.full((len(places), *size), -1.0)
    for k, tile in enumerate(places):
        maps = torch.zeros(len(places), tile.window.height, tile.window.width)
        maps[k] = 1  # tile k votes for map k
        blended[(..., *tile.finished.slices)] = blend.add(tile, tile.touched.inside(tile.window).of(maps))
    torch.testing.assert_close(blended.sum(0), torch.ones(size), atol=1e-6, rtol=0)
    expected = np.einsum("ih,jw->ijhw", fades(size[0], tiles), fades(size[1], tiles)).reshape(len(places), *size)
    np.testing.assert_allclose(blended.numpy(), expected, atol=1e-5)


def test_each_pixel_is_one_tiles_own():
    counted, tiles = torch.zeros(300, 171), Tiles(size=64, overlap=7)
    for tile in all_tiles((300, 171), tiles):
        tile.own.of(counted).add_(1)
        assert tile.own.common(tile.window) == tile.own
    assert bool((counted == 1).all())


def test_there_is_no_seam_where_tiles_disagree():
    """A tile's answer may jump from 0 to 1 to the next tile's: the picture's does so in small steps."""
    turns = iter(range(100))

    def predict(picture):
        return answer_of(
            torch.zeros(3, *picture.shape[1:]), edges=torch.full(picture.shape[1:], float(next(turns) % 2))
        )

    answer = predict_tiled(predict, noise(64, 240), SMALL)
    steps = answer.edges.diff(dim=1).abs()
    assert answer.edges.amin() == 0
    assert answer.edges.amax() == 1
    assert steps.amax() <= np.pi / 2 / 20 + 1e-6  # the steepest slope of half a cosine over 20 pixels


REACH = 3


@pytest.fixture(scope="module")
def network():
    """Three 3x3 convolutions with zeros around: each answer depends on three pixels to each side."""
    torch.manual_seed(0)
    first, second, third = (torch.nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 8), (8, 8), (8, 4)))
    model = torch.nn.Sequential(first, torch.nn.Tanh(), second, torch.nn.Tanh(), third)

    @torch.inference_mode()
    def predict(picture):
        maps = model(picture[None].float() / 255)[0]
        return answer_of(6 * maps[:3], edges=maps[3].sigmoid())

    return predict


@pytest.mark.parametrize("size", [(64, 65), (150, 201), (20, 300)])
def test_tiles_answer_as_the_whole_picture_does(network, size):
    picture = noise(*size)
    whole, tiled = network(picture), predict_tiled(network, picture, SMALL)
    influenced = torch.zeros(size, dtype=torch.bool)
    for tile in all_tiles(size, SMALL):
        seen, touched = tile.window, tile.touched
        inner = [(seen.top > 0, (0, REACH), None), (seen.bottom < size[0], (-REACH, None), None),
                 (seen.left > 0, None, (0, REACH)), (seen.right < size[1], None, (-REACH, None))]  # fmt: skip
        borders = torch.zeros(size, dtype=torch.bool)
        for is_inner, rows, columns in inner:
            if is_inner:
                seen.of(borders)[slice(*(rows or (None,))), slice(*(columns or (None,)))] = True
        touched.of(influenced).logical_or_(touched.of(borders))
    away = ~influenced
    assert away.float().mean() > 0.75
    for name in ("probabilities", "edges", "confidence"):
        torch.testing.assert_close(getattr(tiled, name)[..., away], getattr(whole, name)[..., away], atol=1e-5, rtol=0)
    sure = whole.probabilities.sort(0).values[-2:].diff(dim=0)[0] > 1e-4
    assert torch.equal(tiled.semantic[away & sure], whole.semantic[away & sure])
    # Near the tiles' own borders their weight is small: (1 - cos(pi * 2.5 / 20)) / 2 of at most 1 a border.
    assert (tiled.edges - whole.edges).abs().amax() < 0.08


def test_constants_stay_exactly_what_they_are():
    logits = torch.tensor([0.3, 0.1, -0.7])

    def predict(picture):
        height, width = picture.shape[1:]
        same = answer_of(logits[:, None, None].expand(3, height, width))
        return replace(same, distances=torch.full((height, width), 0.1), fine=same.semantic + 1)

    answer = predict_tiled(predict, noise(131, 222), SMALL)
    alone = predict(noise(1, 1))
    for name in ("probabilities", "confidence", "semantic", "distances", "fine"):
        value = getattr(alone, name)
        assert torch.equal(getattr(answer, name), value.expand(*value.shape[:-2], 131, 222))
    assert answer.coarse is answer.edges is answer.difficulty is answer.instances is None


def test_a_picture_of_one_tile_is_predicted_as_ever(network):
    answers = []
    picture = noise(64, 50)
    result = predict_tiled(lambda p: answers.append(network(p)) or answers[-1], picture, SMALL)
    assert result is answers[0]


@pytest.mark.parametrize("size", [(1, 1), (40_000, 10), (1, 500)])
def test_odd_sizes(network, size):
    answer = predict_tiled(network, noise(*size), Tiles(size=256, overlap=64))
    assert answer.semantic.shape == answer.edges.shape == size
    torch.testing.assert_close(answer.probabilities.sum(0), torch.ones(size))


def test_classes_without_probabilities_are_each_tiles_own(network):
    picture = noise(100, 150)
    bare = predict_tiled(lambda p: replace(network(p), scores=None), picture, SMALL)
    whole = network(picture)
    assert bare.probabilities is bare.confidence is None
    assert (bare.semantic == whole.semantic)[10:-10, 10:-10].float().mean() > 0.999


def test_views_of_tiles(network):
    picture = noise(100, 150)
    answer = predict_tiled(lambda p: predict_views(network, p, Views(flip=True)), picture, SMALL)
    whole = predict_views(network, picture, Views(flip=True))
    torch.testing.assert_close(answer.probabilities[:, :40, :40], whole.probabilities[:, :40, :40], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "overlap", "message"), [
    (32, 4, "64 pixels a side or more, in steps of 32, got 32"), (100, 4, "in steps of 32, got 100"),
    (64, 22, "overlap by 0 to 21 pixels, got 22"), (64, -1, "got -1"),
])  # fmt: skip
def test_what_are_no_tiles(size, overlap, message):
    with pytest.raises(ValueError, match=message):
        Tiles(size=size, overlap=overlap)
