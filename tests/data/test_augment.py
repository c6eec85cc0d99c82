import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.tv_tensors import Image, Mask

from fake_datasets import write_folder
from samples import make, plain
from smalti.containers import Sample
from smalti.data.augment import Augmentation, resize_labels, resize_picture
from smalti.data.dataset import CountIgnored, TrainingSet, WithMirrorImages, open_dataset, sample_seed
from smalti.recipe import AugmentationRecipe

STILL = AugmentationRecipe(flip_horizontal=0.0)


def coordinates(size):
    """A picture whose pixels say where they were: red is the row, green the column; so do the instance ids."""
    rows, columns = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    image = torch.from_numpy(np.stack([rows, columns, rows * 0]).astype(np.uint8))
    return Sample(
        image=Image(image),
        semantic=Mask(torch.zeros(size, dtype=torch.uint8)),
        instance_ids=Mask(torch.from_numpy((rows * 256 + columns + 1).astype(np.int32))),
    )


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(plain(one), plain(other), strict=True))


def test_torchvision_transforms_go_through_a_sample():
    """Pinned: without torch.export.register_dataclass, v2 transforms return the sample untouched, silently."""
    turned = v2.RandomHorizontalFlip(p=1.0)(make())
    assert isinstance(turned, Sample)
    for after, before in zip(plain(turned), plain(make()), strict=True):
        assert torch.equal(after, before.flip(-1))
    assert turned.name == "x"


def test_nothing_asked_for_changes_nothing():
    assert same(Augmentation(STILL)(make(), 7), make())


def test_missing_truth_stays_missing():
    bare = Sample(image=make().image, name="bare")
    recipe = AugmentationRecipe(scale=(0.5, 2.0), crop=(40, 20), flip_vertical=0.5, hue=0.1)
    found = Augmentation(recipe)(bare, 1)
    assert (found.semantic, found.instance_ids, found.name) == (None, None, "bare")
    assert found.size == (40, 20)


SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))
SCALES = st.tuples(st.floats(0.3, 1), st.floats(1, 3))


@given(size=SIZES, scale=SCALES, crop=st.one_of(st.none(), SIZES), seed=st.integers(0, 2**63 - 1))
@settings(max_examples=60, deadline=None)
def test_any_size_scale_and_crop(size, scale, crop, seed):
    recipe = AugmentationRecipe(scale=scale, crop=crop, flip_horizontal=0.5, flip_vertical=0.5)
    found = Augmentation(recipe)(coordinates(size), seed)
    assert found.size == (crop or size)
    image, semantic, ids = plain(found)
    assert image.dtype == torch.uint8
    assert semantic.dtype == torch.uint8
    assert ids.dtype == torch.int32
    outside = semantic == 255
    assert torch.equal(outside, ids == 0)
    assert (image[:, outside] == 0).all()
    # Picture and truth moved together: bilinear and nearest look at places at most one original pixel apart.
    rows, columns = (ids - 1) // 256, (ids - 1) % 256
    inside = ~outside
    assert inside.any()
    assert ((image[0].int() - rows).abs() <= 1)[inside].all()
    assert ((image[1].int() - columns).abs() <= 1)[inside].all()


def test_a_crop_is_a_window_of_the_picture():
    sample = coordinates((30, 40))
    corners = set()
    for seed in range(200):
        image = Augmentation(dataclasses.replace(STILL, crop=(28, 38)))(sample, seed).image.as_subclass(Tensor)
        top, left = int(image[0, 0, 0]), int(image[1, 0, 0])
        assert torch.equal(image, sample.image.as_subclass(Tensor)[:, top : top + 28, left : left + 38])
        corners.add((top, left))
    assert corners == {(r, c) for r in range(3) for c in range(3)}, "every place occurs"


def test_smaller_pictures_are_placed_anywhere():
    places = set()
    for seed in range(200):
        semantic = Augmentation(dataclasses.replace(STILL, crop=(4, 5)))(coordinates((3, 3)), seed).semantic
        rows, columns = np.nonzero(semantic.numpy() == 0)
        assert len(rows) == 9
        places.add((rows.min(), columns.min()))
    assert places == {(r, c) for r in range(2) for c in range(3)}


def test_scale_is_log_uniform():
    """Half of the pictures shrink, half grow; the size of what is kept says how much."""
    augmentation = Augmentation(dataclasses.replace(STILL, scale=(0.5, 2.0), crop=(1, 200)))
    widths = [int((augmentation(coordinates((1, 100)), seed).semantic != 255).sum()) for seed in range(800)]
    factors = np.log2(np.array(widths) / 100)
    assert factors.min() >= -1
    assert factors.max() <= 1
    observed, _ = np.histogram(factors, bins=8, range=(-1, 1))
    chi_square = ((observed - 800 / 8) ** 2 / (800 / 8)).sum()
    assert chi_square < 24.3, "the 0.1 % quantile of chi-square with 7 degrees of freedom"


def test_flips_occur_as_often_as_asked():
    augmentation = Augmentation(AugmentationRecipe(flip_horizontal=0.5, flip_vertical=0.25))
    sample = coordinates((4, 6))
    found = [augmentation(sample, seed).image.as_subclass(Tensor) for seed in range(1000)]
    assert 0.43 < np.mean([int(f[1, 0, 0]) == 5 for f in found]) < 0.57
    assert 0.19 < np.mean([int(f[0, 0, 0]) == 3 for f in found]) < 0.31


def test_jitter_is_torchvisions_and_leaves_truth_and_padding_alone():
    recipe = dataclasses.replace(STILL, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1, crop=(30, 40))
    found = Augmentation(recipe)(make(), 3)
    kept = Augmentation(dataclasses.replace(STILL, crop=(30, 40)))
    assert (plain(found)[0][:, plain(found)[1] == 255] == 0).all()
    assert not torch.equal(plain(found)[0], plain(kept(make(), 3))[0])
    assert torch.equal(plain(found)[2].unique(), torch.tensor([0, 1, 2, 3]))
    # The same draws by hand: scale, then torchvision's own jitter.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        torch.rand(())
        expected = v2.ColorJitter(0.5, 0.5, 0.5, 0.1)(make().image).as_subclass(Tensor)
    inside = plain(found)[1] != 255
    assert torch.equal(plain(found)[0][:, inside].reshape(3, 24, 32), expected)


def test_a_pure_function_of_the_seed():
    recipe = AugmentationRecipe(scale=(0.5, 2.0), crop=(20, 20), flip_vertical=0.5, brightness=0.4, hue=0.1)
    augmentation = Augmentation(recipe)
    torch.manual_seed(1)
    first = augmentation(make(), 11)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert same(first, pickle.loads(pickle.dumps(augmentation))(make(), 11))
    assert not same(first, augmentation(make(), 12))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the caller's random numbers go on as if nothing had been drawn"


def test_impossible_scales_are_refused():
    for scale in ((0.0, 1.0), (2.0, 1.0)):
        with pytest.raises(ValueError, match="scale"):
            Augmentation(AugmentationRecipe(scale=scale))


@given(old=st.integers(1, 60), new=st.integers(1, 60))
@settings(max_examples=60, deadline=None)
def test_label_resizing_equals_nearest_exact(old, new):
    labels = torch.arange(old, dtype=torch.int32).expand(3, old)
    expected = F.interpolate(labels[None, None].double(), (5, new), mode="nearest-exact")[0, 0].int()
    exact = [int(np.floor((k + 0.5) * old / new)) for k in range(new)]
    assert resize_labels(labels, (5, new))[0].tolist() == exact
    # torch multiplies in float32: at exact ties it may take the neighbour.
    assert (resize_labels(labels, (5, new)) - expected).abs().max() <= 1


def test_picture_resizing_equals_bilinear_in_floats():
    image = make((20, 30)).image.as_subclass(Tensor)
    exact = F.interpolate(image[None].double(), (33, 17), mode="bilinear", align_corners=False)[0]
    assert (resize_picture(image, (33, 17)).double() - exact).abs().max() <= 1.01
    wide = (image.int() * 257).to(torch.uint16)
    assert (resize_picture(wide, (33, 17)).double() - exact * 257).abs().max() <= 0.6, "rounding, and float32 at 65,535"


def test_sample_seeds_are_fixed_and_differ():
    assert sample_seed(0, 0, 0) == sample_seed(0, 0, 0)
    seeds = {sample_seed(s, e, i) for s in range(5) for e in range(20) for i in range(50)}
    assert len(seeds) == 5000
    assert all(0 <= s < 2**63 for s in seeds)


@pytest.fixture
def folder(tmp_path):
    return open_dataset("folder", root=write_folder(tmp_path), split="train", options={})


def test_training_items_depend_on_epoch_and_index_only(folder):
    items = TrainingSet(folder, Augmentation(AugmentationRecipe(scale=(0.5, 2.0))), seed=5)
    assert len(items) == len(folder)
    before = items[3, 1]
    torch.manual_seed(99)
    assert torch.equal(items[3, 1].image, before.image)
    assert not torch.equal(items[4, 1].image, before.image)
    other = TrainingSet(folder, Augmentation(AugmentationRecipe(scale=(0.5, 2.0))), seed=6)
    assert not torch.equal(other[3, 1].image, before.image)


def test_mirror_images_s6(folder):
    """Spec test S6: three samples of each, flips are involutions, picture and labels flip together."""
    mirrored = WithMirrorImages(folder)
    assert len(mirrored) == 3 * len(folder)
    assert len({mirrored.sample_name(k) for k in range(len(mirrored))}) == len(mirrored)
    assert len({mirrored.content_key(k) for k in range(len(mirrored))}) == len(mirrored)
    for k in range(len(folder)):
        original = folder.read(k)
        assert torch.equal(mirrored.read(3 * k).image, original.image)
        for view, axis in ((1, -1), (2, -2)):
            sample = mirrored.read(3 * k + view)
            assert sample.name == mirrored.sample_name(3 * k + view)
            for turned, truth in ((sample.image, original.image), (sample.semantic, original.semantic)):
                assert type(turned) is type(truth)
                assert not torch.equal(turned, truth)
                assert torch.equal(turned.as_subclass(Tensor).flip(axis), truth.as_subclass(Tensor))


def test_counting_ignored_pixels(folder):
    counted = CountIgnored(folder)
    assert counted.labels.names == ("ground", "tree", "house", "void")
    before, after = folder.read(0).semantic.as_subclass(Tensor), counted.read(0).semantic.as_subclass(Tensor)
    assert torch.equal(after == 3, before == 255)
    assert torch.equal(after[before != 255], before[before != 255])
    assert counted.content_key(0) != folder.content_key(0)


def test_scales_in_steps_are_equally_likely():
    from smalti.data.augment import ScaledCrop

    crop = ScaledCrop((0.5, 2.0), (8, 8), 0.25)
    torch.manual_seed(0)
    found = torch.tensor([crop._factor() for _ in range(7000)])
    values, counts = found.unique(return_counts=True)
    torch.testing.assert_close(values, torch.arange(0.5, 2.01, 0.25))
    assert counts.min() > 850  # of 1000 expected; five standard deviations are 146


def test_a_bad_step_is_named():
    with pytest.raises(ValueError, match="scale_step must be above 0"):
        Augmentation(AugmentationRecipe(scale_step=0.0))


@pytest.mark.parametrize("seed", range(5))
def test_padding_is_marked_where_no_picture_is(seed):
    sample = dataclasses.replace(coordinates((20, 30)), image=Image(torch.full((3, 20, 30), 9, dtype=torch.uint8)))
    found = Augmentation(AugmentationRecipe(scale=(0.5, 0.9), flip_horizontal=0.5, flip_vertical=0.5))(sample, seed)
    assert found.padding is not None
    assert torch.equal(found.padding.as_subclass(Tensor) == 1, found.image[0].as_subclass(Tensor) == 0)
    assert Augmentation(STILL)(sample, seed).padding is None
