"""The procedural scenes: repeatable, honest labels, any size, and neither trivial nor noise."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smalti.data.scene_drawing import Scene, draw_scene

THINGS = (8, 9, 10)  # CamVid's car, pedestrian, bicyclist
SMALL = (96, 128)


def test_same_seed_and_size_give_the_same_bytes_and_another_seed_does_not():
    first, between, again = draw_scene(7, SMALL), draw_scene(8, SMALL), draw_scene(7, SMALL)
    for name in ("image", "semantic", "instance_ids"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert np.mean(first.image != between.image) > 0.5
    assert np.mean(first.semantic != between.semantic) > 0.1


@pytest.mark.parametrize("size", [(64, 96), (97, 131), (192, 256), (360, 480), (200, 100)])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_shapes_types_and_label_values_at_any_size(size: tuple[int, int], seed: int):
    scene = draw_scene(seed, size)
    assert (scene.image.shape, scene.image.dtype) == ((*size, 3), np.uint8)
    assert (scene.semantic.shape, scene.semantic.dtype) == (size, np.uint8)
    assert (scene.instance_ids.shape, scene.instance_ids.dtype) == (size, np.int32)
    assert set(np.unique(scene.semantic)) <= {*range(11), 255}
    assert scene.image.std() > 10


@pytest.mark.parametrize("seed", range(12))
def test_instances_are_exactly_the_visible_things(seed: int):
    scene = draw_scene(seed)
    assert np.array_equal(scene.instance_ids > 0, np.isin(scene.semantic, THINGS))
    ids = np.unique(scene.instance_ids)
    assert ids.tolist() == list(range(ids.max() + 1))
    for number in ids[1:]:
        classes = scene.semantic[scene.instance_ids == number]
        assert classes.size >= 12
        assert np.unique(classes).size == 1


def test_a_large_picture_shows_the_layout_of_the_small_one():
    small, large = draw_scene(3, (96, 128)), draw_scene(3, (192, 256))
    assert np.mean(small.semantic == large.semantic[::2, ::2]) > 0.85


def test_every_class_is_common_and_void_is_rare():
    labels = [draw_scene(seed).semantic for seed in range(40)]
    counts = np.stack([np.bincount(label.ravel(), minlength=256) for label in labels]) / labels[0].size
    assert ((counts[:, :11] > 0.001).mean(axis=0) >= 0.6).all()
    assert (counts[:, :11].mean(axis=0) >= 0.005).all()
    assert counts[:, 255].mean() < 0.02


def test_too_small_a_size_is_refused():
    with pytest.raises(ValueError, match="64 x 96"):
        draw_scene(0, (63, 96))


def _pixels(scene: Scene, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Colour, position and their squares of some random pixels, with their classes."""
    chosen = rng.choice(np.flatnonzero(scene.semantic != 255), number, replace=False)
    positions = np.stack(np.unravel_index(chosen, scene.semantic.shape), axis=1)
    features = np.concatenate([scene.image.reshape(-1, 3)[chosen], positions], axis=1).astype(float)
    return np.concatenate([features, features**2], axis=1), scene.semantic.ravel()[chosen]


def _sampled(seeds: range, number: int) -> tuple[np.ndarray, np.ndarray]:
    parts = [_pixels(draw_scene(seed, SMALL), number, np.random.default_rng(seed)) for seed in seeds]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


@pytest.fixture(scope="module")
def baseline_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    return _sampled(range(60), 150), _sampled(range(5000, 5030), 800)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_colour_and_position_alone_say_something_but_do_not_solve_the_scenes(baseline_data, class_weight):
    (train, train_labels), (test, test_labels) = baseline_data
    baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=100, class_weight=class_weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the last digits do not matter here
        predicted = baseline.fit(train, train_labels).predict(test)
    miou = jaccard_score(test_labels, predicted, labels=range(11), average="macro", zero_division=0)
    assert 0.15 <= miou <= 0.35
