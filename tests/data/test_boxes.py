"""Annotated boxes move with their pictures, and masks with both; SSD's augmentation on procedural scenes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes
from torchvision.tv_tensors import Image, Mask

from fake_datasets import VOC_OBJECTS, voc_xml, write_voc
from smalti.containers import Sample
from smalti.data.augment import Augmentation, paste_sample
from smalti.data.boxes import annotated_boxes, what_is_wrong
from smalti.data.cache import CachedDataset
from smalti.data.contract import DataError
from smalti.data.dataset import WithMirrorImages
from smalti.data.derive import derive_targets, sample_objects
from smalti.data.fit import fit_sample
from smalti.data.sets.coco_stuff import COCO_STUFF
from smalti.data.sets.scenes import Scenes
from smalti.data.sets.voc import Voc
from smalti.labels import CAMVID, VOC
from smalti.recipe import AugmentationRecipe, InputPolicy

SSD = AugmentationRecipe(zoom_out=0.5, object_crop=True, hue=0.07)


def blocks(size=(40, 60)):
    """Two objects whose pixels are their boxes: box and mask can be compared after any change."""
    classes, ids = np.zeros(size, np.uint8), np.zeros(size, np.int32)
    corners = [(6, 4, 26, 20), (30, 10, 54, 36)]
    for k, (left, top, right, bottom) in enumerate(corners):
        classes[top:bottom, left:right], ids[top:bottom, left:right] = 1 + k, 1 + k
    return Sample(
        image=Image(torch.from_numpy(np.stack([ids * 100] * 3).astype(np.uint8))),
        semantic=Mask(torch.from_numpy(classes)),
        instance_ids=Mask(torch.from_numpy(ids)),
        instances=annotated_boxes(corners, [1, 2], size, areas=[1, 2], difficult=[True, False]),
        name="blocks",
    )


def assert_aligned(sample, tolerance):
    """Each box that is left lies around its object's pixels; each object's pixels are of its class."""
    ids = sample.instance_ids.as_subclass(Tensor)
    assert sample.instances.boxes.canvas_size == sample.size
    assert len(sample.instances.labels) == len(sample.instances.boxes) == len(sample.instances.difficult)
    for box, label, difficult in zip(
        sample.instances.boxes.as_subclass(Tensor), sample.instances.labels, sample.instances.difficult, strict=True
    ):
        assert bool(difficult) == (int(label) == 1)
        seen = masks_to_boxes((ids == label)[None])[0] + torch.tensor([0, 0, 1, 1])
        torch.testing.assert_close(box, seen, atol=tolerance, rtol=0)
    assert torch.equal(sample.semantic.as_subclass(Tensor)[ids > 0], ids[ids > 0].to(torch.uint8))


@pytest.mark.parametrize("seed", range(12))
def test_ssd_augmentation_keeps_boxes_on_masks(seed):
    found = Augmentation(SSD)(blocks(), seed)
    assert_aligned(found, 1e-4)
    assert found.instances.areas is None  # they were those of the whole picture
    fitted, frame = fit_sample(found, InputPolicy(fit="stretch", size=(33, 47)), 1)
    assert fitted.size == (33, 47) == frame.padded
    scale = torch.tensor([47 / found.size[1], 33 / found.size[0]] * 2)
    torch.testing.assert_close(fitted.instances.boxes.as_subclass(Tensor), found.instances.boxes * scale)


@pytest.mark.parametrize("seed", range(12))
def test_scale_crop_and_flips_keep_boxes_on_masks(seed):
    recipe = AugmentationRecipe(scale=(0.6, 1.6), crop=(32, 48), flip_vertical=0.5)
    assert_aligned(Augmentation(recipe)(blocks(), seed), 1.0)  # a pixel of the picture is up to 1.6


@pytest.mark.parametrize("seed", range(6))
def test_stretching_before_the_colours_changes_nothing_else(seed):
    recipe = replace(SSD, hue=0.0)
    early, _ = fit_sample(Augmentation(recipe, (30, 44))(blocks(), seed), InputPolicy(), 1)
    late, _ = fit_sample(Augmentation(recipe)(blocks(), seed), InputPolicy(fit="stretch", size=(30, 44)), 1)
    assert early.size == (30, 44)
    for name in ("image", "semantic", "instance_ids"):
        torch.testing.assert_close(getattr(early, name), getattr(late, name), atol=1 if name == "image" else 0, rtol=0)
    torch.testing.assert_close(early.instances.boxes, late.instances.boxes)


def test_all_kinds_of_ssd_augmentation_occur():
    sizes = [Augmentation(SSD)(blocks(), seed).size for seed in range(60)]
    assert any(height > 40 and width > 60 for height, width in sizes)  # zoomed out
    assert any(height < 40 or width < 60 for height, width in sizes)  # cropped
    assert (40, 60) in sizes  # left alone


def test_the_canvas_is_of_the_mean_colour_and_of_its_label():
    recipe = AugmentationRecipe(zoom_out=1.0, flip_horizontal=0.0)
    sample = blocks()
    found = Augmentation(recipe, background=7)(sample, 3)
    assert found.size[0] / 40 == pytest.approx(found.size[1] / 60, abs=0.05)
    outside = found.semantic.as_subclass(Tensor) == 7
    assert outside.sum() == found.size[0] * found.size[1] - 40 * 60
    mean = sample.image.float().mean((1, 2)).round().to(torch.uint8)
    assert torch.equal(found.image.as_subclass(Tensor)[:, outside].unique(dim=1), mean[:, None])
    assert found.padding is None
    assert (found.instance_ids.as_subclass(Tensor)[outside] == 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_scenes_stay_aligned(seed):
    """Boxes read off the pixels before the crop and moved with it hold what is left of the pixels of their class."""
    sample = Scenes(split="val", length=1, size=(96, 128)).read(0)
    annotated = sample_objects(sample)
    corners = annotated.boxes.as_subclass(Tensor).tolist()
    sample = replace(sample, instances=annotated_boxes(corners, annotated.labels.tolist(), sample.size))
    found = Augmentation(SSD)(sample, seed)
    ids, classes = found.instance_ids.as_subclass(Tensor), found.semantic.as_subclass(Tensor)
    visible = sample_objects(replace(found, instances=None))
    assert len(found.instances) > 0
    for box, label in zip(found.instances.boxes.as_subclass(Tensor), found.instances.labels, strict=True):
        inside = (visible.boxes[:, :2] >= box[:2] - 1e-3) & (visible.boxes[:, 2:] <= box[2:] + 1e-3)
        assert (inside.all(1) & (visible.labels == label)).any()
    assert torch.equal(ids > 0, (ids > 0) & (classes != 255))


def test_the_background_is_a_class_of_that_name():
    assert VOC.background == 0
    assert COCO_STUFF.background == CAMVID.background == 255  # class 0 is a person, and the sky


def test_things_without_a_number_are_a_crowd():
    """Neither learned nor background; numbers on what is no thing are no objects."""
    sample = replace(blocks(), instances=None)
    ids = sample.instance_ids.as_subclass(Tensor).clone()
    ids[ids == 2], ids[0, 0] = 0, 9
    sample = replace(sample, instance_ids=Mask(ids))
    is_thing = np.isin(np.arange(256), [1, 2])
    found = sample_objects(sample, is_thing)
    assert found.boxes.tolist() == [[6, 4, 26, 20], [30, 10, 54, 36]]
    assert (found.labels.tolist(), found.crowd.tolist()) == ([1, 2], [False, True])
    (learned,) = derive_targets([sample], frozenset({"instances"}), is_thing).instances
    assert learned.crowd.tolist() == [False, True]
    assert sample_objects(replace(sample, instance_ids=None), is_thing) is None


def test_objects_known_by_pixels_alone_stay_so():
    sample = replace(blocks(), instances=None)
    for seed in range(8):
        assert Augmentation(SSD)(sample, seed).instances is None
    bare = replace(sample, instance_ids=None)
    assert Augmentation(AugmentationRecipe(object_crop=True, flip_horizontal=0.0))(bare, 0).size == (40, 60)


def test_an_object_is_kept_by_its_middle():
    sample = blocks()
    left, right = (fit_sample(sample, InputPolicy(fit="crop", size=size), 1)[0] for size in ((40, 30), (40, 18)))
    assert left.instances.boxes.tolist() == [[0, 4, 11, 20], [15, 10, 30, 36]]
    assert right.instances.labels.tolist() == []  # middles at 16 and 42, the window is 21 to 39
    targets = derive_targets([left], frozenset({"instances"}))
    assert len(targets.instances[0]) == 2


def test_pasting_moves_boxes():
    found = paste_sample(blocks(), (50, 70), (3, 5))
    assert found.instances.boxes.tolist() == [[11, 7, 31, 23], [35, 13, 59, 39]]
    assert found.instances.areas is None


def test_no_boxes_and_no_annotation_are_two_things():
    empty = replace(blocks(), instances=annotated_boxes([], [], (40, 60)))
    none = replace(blocks(), instances=None, instance_ids=None)
    for seed in range(4):
        assert len(Augmentation(SSD)(empty, seed).instances) == 0
    targets = derive_targets([empty, none], frozenset({"instances"}))
    assert len(targets.instances[0]) == 0
    assert targets.instances[1] is None


def test_the_cache_keeps_them(tmp_path):
    dataset = Voc(write_voc(tmp_path / "data"))
    cached = CachedDataset(dataset, tmp_path / "cache")
    for _ in range(2):
        sample = cached.read(0)
        assert sample.instances.boxes.tolist() == dataset.read(0).instances.boxes.tolist()
        assert sample.instances.difficult.tolist() == [False, True]
        assert sample.instances.crowd is None
    mirrored = WithMirrorImages(cached)
    assert mirrored.read(1).instances.boxes.tolist() == [[12, 1, 30, 24], [0, 5, 28, 10]]
    assert mirrored.read(2).instances.boxes.tolist() == [[2, 0, 20, 23], [4, 14, 32, 19]]


def test_vocs_corners_are_pixels_counted_from_one(tmp_path):
    sample = Voc(write_voc(tmp_path)).read(0)
    assert sample.instances.boxes.tolist() == [[2, 1, 20, 24], [4, 5, 32, 10]]
    assert sample.instances.labels.tolist() == [15, 20]
    assert sample.instances.difficult.tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (voc_xml([("persn", (1, 1, 5, 5), 0)]), r'object 1 \(persn\): no such class; did you mean "person"'),
        (voc_xml([*VOC_OBJECTS, ("person", (5, 1, 3, 5), 0)]), r"object 3 \(person\): its box is inverted"),
        (voc_xml([("person", (6, 1, 5, 5), 0)]), r"object 1 \(person\): its box has no area"),
        (voc_xml([("person", (1, 1, 40, 5), 0)]), r"object 1 \(person\): its box lies outside .*24 x 32"),
        (voc_xml([("person", (1, "nan", 40, 5), 0)]), "a number that is none"),
        (voc_xml([("person", (1, "x", 40, 5), 0)]), "needs a bndbox with the numbers"),
        ("<annotation><object></object></annotation>", r"object 1 \(without a name\)"),
        (voc_xml([("person", (1, 1, 5, 5), "no")]), r'object 1 \(person\): difficult must be 0 or 1, got "no"'),
        ("<annotation>", "cannot be read as XML"),
        ("<annotation><size><width>32</width><height>99</height></size></annotation>", "is for a picture of 99 x 32"),
    ],
)
def test_bad_xml_is_named(tmp_path, text, message):
    root = write_voc(tmp_path)
    (root / "VOC2012" / "Annotations" / "2007_000001.xml").write_text(text)
    with pytest.raises(DataError, match=rf"2007_000001.xml.*{message}"):
        Voc(root).read(0)


def test_all_problems_of_an_xml_file_are_named_at_once(tmp_path):
    root = write_voc(tmp_path)
    path = root / "VOC2012" / "Annotations" / "2007_000001.xml"
    path.write_text(voc_xml([("persn", (1, 1, 5, 5), 0), *VOC_OBJECTS, ("person", (6, 1, 5, 5), 0)]))
    with pytest.raises(DataError, match=r"2 problems: object 1 \(persn\).*; object 4 \(person\): its box has no area"):
        Voc(root).read(0)


def test_boxes_that_reach_a_little_out_are_clipped_and_said_once(tmp_path):
    root = write_voc(tmp_path)
    assert Voc(root).notes == ()
    for name in ("2007_000001", "2007_000002"):
        text = voc_xml([*VOC_OBJECTS, ("person", (3, 4, 33, 25), 0)])
        (root / "VOC2012" / "Annotations" / f"{name}.xml").write_text(text)
    for _ in range(2):  # counted, then remembered
        dataset = Voc(root)
        assert dataset.notes == (
            "Annotations: 2 boxes reach up to 1 pixels out of their images and are clipped at the edges",
        )
    assert dataset.read(0).instances.boxes[2].tolist() == [2, 3, 32, 24]


def test_detection_lists_and_pictures_without_masks(tmp_path):
    root = write_voc(tmp_path, "2007")
    folder = root / "VOC2007"
    (folder / "ImageSets" / "Main").mkdir()
    (folder / "ImageSets" / "Main" / "trainval.txt").write_text("2007_000001\n2007_000003\n")
    for kind in ("SegmentationClass", "SegmentationObject"):
        (folder / kind / "2007_000003.png").unlink()
    both, boxes_only = (Voc(root, "main_trainval", year=2007).read(k) for k in range(2))
    assert both.semantic is not None
    assert (boxes_only.semantic, boxes_only.instance_ids) == (None, None)
    assert len(boxes_only.instances) == 2
    with pytest.raises(DataError, match=r"ImageSets/Main/test.txt"):
        Voc(root, "main_test")


def test_2007_and_2012_together(tmp_path):
    from fake_datasets import write_sbd

    root = write_voc(tmp_path, "2007")
    write_voc(tmp_path / "newer", "2012")
    (tmp_path / "newer" / "VOCdevkit" / "VOC2012").rename(root / "VOC2012")
    write_sbd(tmp_path)
    (root / "VOC2007" / "ImageSets" / "Main").mkdir()
    (root / "VOC2007" / "ImageSets" / "Main" / "trainval.txt").write_text("2007_000005\n")
    (root / "VOC2012" / "Annotations" / "2008_000001.xml").write_text(voc_xml(VOC_OBJECTS[:1]))
    joined = Voc(root, "trainval_0712")
    assert joined.edition == "2007 and 2012"
    names = [joined.sample_name(k) for k in range(len(joined))]
    assert names == ["2007_000005", "2007_000001", "2007_000002", "2008_000001", "2008_000002", "2008_000003"]
    assert len(joined.read(3).instances) == 1  # SBD's pictures have VOC's boxes, where there are some
    assert joined.read(4).instances is None
    old, new = joined.read(0), joined.read(1)  # of 2007 the boxes alone: some of its pictures are 2012's val
    assert (old.semantic, old.instance_ids) == (None, None)
    assert new.semantic is not None


@pytest.mark.parametrize(
    ("corners", "problem"),
    [((0, 0, 5, 5), None), ((-0.5, 0, 10.9, 8), None), ((3, 3, 3, 5), "no area"), ((3, 3, 2, 5), "inverted"),
     ((3, -2, 5, 5), "outside"), ((10, 3, 10.5, 5), "outside"), ((3, 3, float("inf"), 5), "none")],
)  # fmt: skip
def test_what_is_wrong(corners, problem):
    found = what_is_wrong(corners, (8, 10))
    assert found is None if problem is None else problem in found
