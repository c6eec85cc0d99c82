"""Masks of people's own folders: read as their class table says, or refused; never learned wrongly without a word."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fake_datasets import picture, save, write_camvid
from smalti.data import masks
from smalti.data.dataset import DataError, open_dataset
from smalti.data.doubts import find_doubts
from smalti.data.duplicates import shared_images
from smalti.data.label_survey import label_notes, survey_labels
from smalti.data.mask_smoothing import find_blending
from smalti.data.sets.folder import Folder
from smalti.studies.data_summary import summarise

SIZE = (64, 80)
COLORS = {"sky": (128, 128, 128), "road": (128, 64, 128), "tree": (0, 128, 0)}
TABLE = {"classes": [{"name": name, "color": color} for name, color in COLORS.items()]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path_factory.mktemp("cache")))


def drawn(seed):
    """Labels 0, 1, 2 of a scene; every second one is upside down, so that colours appear in another order."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SIZE, np.uint8)
    labels[32 + rng.integers(-6, 6) :] = 1
    left = rng.integers(5, 50)
    labels[15:45, left : left + 20] = 2
    return labels[::-1] if seed % 2 else labels


def colored(labels):
    return np.array(list(COLORS.values()), np.uint8)[labels]


def in_order_of_appearance(labels):
    """A palette file as optimisers write it: numbers by first appearance."""
    order = list(dict.fromkeys(labels.ravel().tolist()))
    numbers = np.argsort(order)[labels].astype(np.uint8) if len(order) == 3 else labels
    return with_palette(numbers, [list(COLORS.values())[k] for k in order])


def with_palette(numbers, colors):
    image = Image.fromarray(numbers).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([value for color in colors for value in color])
    return image


def write(root, masks, table=TABLE, suffix="png"):
    """A folder with these masks (PIL images or arrays), each with an image of its own."""
    for k, mask in enumerate(masks):
        image = mask if isinstance(mask, Image.Image) else Image.fromarray(mask)
        save(root / "images" / f"p{k:02}.png", picture(k, (image.height, image.width)))
        (root / "masks").mkdir(exist_ok=True)
        image.save(root / "masks" / f"p{k:02}.{suffix}")
    if table is not None:
        (root / "labels.json").write_text(json.dumps(table))
    return root


def opened(root, split="all"):
    return open_dataset("folder", root=root, split=split, options={})


def labels_of(root):
    dataset = opened(root)
    return [dataset.read(k).semantic.numpy() for k in range(len(dataset))]


def by_optimiser(labels):
    return in_order_of_appearance(labels)


def by_pillow(labels):
    return Image.fromarray(colored(labels)).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)


def as_rgb(labels):
    return Image.fromarray(colored(labels))


@pytest.mark.parametrize("encode", [by_optimiser, by_pillow, as_rgb])
def test_palette_files_are_read_by_the_colours_of_the_table(tmp_path, encode):
    truth = [drawn(k) for k in range(4)]
    root = write(tmp_path, [encode(labels) for labels in truth])
    assert all(np.array_equal(*pair) for pair in zip(labels_of(root), truth, strict=True))


def test_gif_and_mixed_kinds_of_files_are_read_alike(tmp_path):
    truth = [drawn(k) for k in range(4)]
    root = write(tmp_path, [by_pillow(labels) for labels in truth[:2]], suffix="gif")
    for k, encode in ((2, as_rgb), (3, by_optimiser)):
        save(root / "images" / f"p{k:02}.png", picture(k, SIZE))
        encode(truth[k]).save(root / "masks" / f"p{k:02}.png")
    assert all(np.array_equal(*pair) for pair in zip(labels_of(root), truth, strict=True))
    notes = list(label_notes(opened(root).labels, {"all": survey_labels(opened(root))}))
    assert "3 as palette colours, 1 as colours" in notes[0]


def test_palette_numbers_count_where_no_colour_objects(tmp_path):
    """A palette of a drawing program, the same in all files, and a table with names only, or with other colours."""
    truth = [drawn(k) for k in range(3)]
    masks = [with_palette(labels, [(9, 9, 9), (200, 0, 0), (0, 0, 200)]) for labels in truth]
    for number, table in enumerate(({"classes": list(COLORS)}, TABLE)):
        root = write(tmp_path / str(number), masks, table)
        assert all(np.array_equal(*pair) for pair in zip(labels_of(root), truth, strict=True))


def test_an_ignored_number_may_be_black_like_a_class(tmp_path):
    labels = drawn(0)
    labels[3:9] = 255
    table = {"classes": [{"name": "a", "color": [0, 0, 0]}, {"name": "b", "color": [9, 0, 0]}, "c"]}
    root = write(tmp_path, [with_palette(labels, [(0, 0, 0), (9, 0, 0), (0, 9, 9), *[(0, 0, 0)] * 253])], table)
    assert np.array_equal(labels_of(root)[0], labels)


@pytest.mark.parametrize("table", [None, {"classes": list(COLORS)}])
def test_unlike_palettes_without_colours_are_refused(tmp_path, table):
    root = write(tmp_path, [by_optimiser(drawn(k)) for k in range(4)], table)
    with pytest.raises(DataError, match=r"palette.*colour of each class|give each class its colour"):
        labels_of(root)


def test_palettes_that_fit_neither_way_are_refused(tmp_path):
    colors = [COLORS["road"], COLORS["sky"], (1, 2, 3)]
    root = write(tmp_path, [with_palette(drawn(0), colors)])
    with pytest.raises(DataError, match=r"p00\.png: neither .* number 2 has the colour \(1, 2, 3\)"):
        labels_of(root)


def test_palette_files_of_objects_keep_their_numbers_unless_black_is_not_the_first(tmp_path):
    root = write(tmp_path, [np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)], {"classes": ["a"]})
    (root / "instances").mkdir()
    numbers = drawn(0)
    with_palette(numbers, [(0, 0, 0), (255, 0, 0), (0, 255, 0)]).save(root / "instances" / "p00.png")
    with_palette(numbers, [(255, 0, 0), (0, 0, 0), (0, 255, 0)]).save(root / "instances" / "p01.png")
    dataset = opened(root)
    assert np.array_equal(dataset.read(0).instance_ids.numpy(), numbers)
    assert np.array_equal(dataset.read(1).instance_ids.numpy() == 0, numbers == 1)


def test_grey_coded_masks_with_255_need_a_table(tmp_path):
    values = np.array([0, 127, 255], np.uint8)
    root = write(tmp_path, [values[drawn(k)] for k in range(3)], None)
    with pytest.raises(DataError, match="0, 127, 255; .* may be a class or mean ignored") as caught:
        opened(root)
    (root / "labels.json").write_text(str(caught.value).split("for example ")[1])
    assert {0, 1, 2} == set(np.unique(labels_of(root)))


def test_a_ring_of_255_around_objects_is_ignored_and_said(tmp_path):
    truth = [drawn(k) for k in range(3)]
    for labels in truth:
        labels[20] = 255
    root = write(tmp_path, truth, None)
    dataset = opened(root)
    assert len(dataset.labels) == 3
    assert "ignored: value 255" in next(label_notes(dataset.labels, {"train": survey_labels(dataset)}))


def test_a_class_that_never_occurs_while_much_is_ignored_is_an_error(tmp_path):
    masks = [np.array([0, 1, 255], np.uint8)[drawn(k)] for k in range(3)]
    for labels in masks:
        labels[:25] = 255
    dataset = opened(write(tmp_path, masks, {"classes": ["background", "object", "other"]}))
    with pytest.raises(DataError, match=r"other never occurs, while \d+ % of the labelled pixels are ignored"):
        find_doubts({"all": dataset}).check()


@pytest.mark.parametrize("size", [1, 12, 40])
def test_masks_of_0_and_255_beside_a_table_of_0_and_1_are_an_error(tmp_path, size):
    """All that would be learned is background, be the objects as small as they may."""
    mask = np.zeros(SIZE, np.uint8)
    mask[5 : 5 + size, 5 : 5 + size] = 255
    dataset = opened(write(tmp_path, [mask, mask], {"classes": ["background", "object"]}))
    with pytest.raises(DataError, match="of 2 classes only one occurs"):
        find_doubts({"all": dataset}).check()


def test_white_of_one_bit_is_the_255_of_other_masks(tmp_path):
    masks = [Image.fromarray(drawn(k) == 2) if k % 2 else (drawn(k) == 2) * np.uint8(255) for k in range(4)]
    root = write(tmp_path, masks, {"classes": ["a", "b"]})
    with pytest.raises(DataError, match="some masks have 1 bit a pixel, others the values 0 and 255"):
        find_doubts({"all": opened(root)}).check()
    (root / "labels.json").unlink()
    with pytest.raises(DataError, match=r"only the values \[0, 255\]"):
        opened(root)
    table = {"classes": [{"id": 0, "name": "a"}, {"id": 255, "name": "b"}], "ignored_ids": []}
    (root / "labels.json").write_text(json.dumps(table))
    assert all(np.array_equal(labels, drawn(k) == 2) for k, labels in enumerate(labels_of(root)))
    assert not find_doubts({"all": opened(root)}).problems


def test_everything_ignored_is_an_error(tmp_path):
    dataset = opened(write(tmp_path, [np.full(SIZE, 255, np.uint8)], {"classes": ["a", "b"]}))
    with pytest.raises(DataError, match="all labelled pixels are ignored"):
        find_doubts({"all": dataset}).check()


def test_masks_that_cannot_be_used_are_counted(tmp_path):
    root = write(tmp_path, [np.full(SIZE, k, np.uint8) for k in (0, 1, 7, 8)], {"classes": ["a", "b"]})
    with pytest.raises(DataError, match=r"p02\.png: value 7 .* \(1 more masks cannot be used"):
        find_doubts({"all": opened(root)}).check()


def test_classes_that_never_occur_and_much_that_is_ignored_are_said(tmp_path):
    table = {"classes": ["a", "b", "c"], "ignored_ids": [9]}
    train = opened(write(tmp_path / "1", [np.where(drawn(0) == 1, 9, 0).astype(np.uint8)], table))
    test = opened(write(tmp_path / "2", [np.ones(SIZE, np.uint8)], table))
    notes = list(label_notes(train.labels, {"train": survey_labels(train), "test": survey_labels(test)}))
    assert notes[1:] == [
        f"train: {100 * float((drawn(0) == 1).mean()):.0f} % of the labelled pixels are ignored",
        "classes that occur in test, but not in train, and cannot be learned: b",
        "classes that never occur: c",
    ]


@pytest.mark.parametrize("ids", [(0, 128, 255), (0, 5, 10)])
def test_drawn_contours_and_slivers_of_one_pixel_are_fine(tmp_path, ids):
    labels = np.zeros(SIZE, np.uint8)
    for value, margin in ((ids[1], 10), (ids[2], 11)):
        labels[margin : 64 - margin, margin : 80 - margin] = value
    table = {"classes": [{"id": k, "name": f"c{k}"} for k in ids], "ignored_ids": []}
    dataset = opened(write(tmp_path, [labels, labels], table))
    find_doubts({"all": dataset}).check()
    assert set(np.unique(dataset.read(0).semantic)) == {0, 1, 2}


@pytest.mark.parametrize(("suffix", "options"), [
    ("tif", {"compression": "jpeg", "quality": 90}), ("jp2", {"quality_layers": [12], "irreversible": True}),
])  # fmt: skip
def test_lossy_compression_inside_other_formats_is_found(tmp_path, suffix, options):
    table = {"classes": [{"id": k, "name": f"c{k}"} for k in range(255)]}
    root = write(tmp_path, [np.zeros((8, 8), np.uint8)], table)
    (root / "masks" / "p00.png").unlink()
    save(root / "images" / "p00.png", picture(0, SIZE))
    Image.fromarray(np.array([3, 40, 90], np.uint8)[drawn(0)]).save(root / "masks" / f"p00.{suffix}", **options)
    with pytest.raises(DataError, match="smoothed or compressed|outside the class table"):
        labels_of(root)


def test_compression_that_no_mask_shows_by_itself_is_found_in_the_set(tmp_path):
    table = {"classes": [{"id": k, "name": f"c{k}"} for k in range(255)]}
    values = np.array([0, 100, 200], np.uint8)
    root = write(tmp_path, [jpeg(values[drawn(k)], tmp_path, 98) for k in range(4)], table)
    labels_of(root)
    with pytest.raises(DataError, match="smoothed or compressed"):
        find_doubts({"all": opened(root)}).check()


def jpeg(labels, tmp_path, quality):
    Image.fromarray(labels).save(tmp_path / "mask.jpg", quality=quality)
    return np.asarray(Image.open(tmp_path / "mask.jpg"))


@pytest.mark.parametrize("quality", [95, 60])
@pytest.mark.parametrize("scale", [7, 127])
def test_compressed_values_in_a_png_are_found(tmp_path, quality, scale):
    masks = [jpeg(drawn(k) * scale, tmp_path, quality) for k in range(3)]
    with pytest.raises(DataError, match=r"(smoothed or compressed|different values).*PNG"):
        opened(write(tmp_path, masks, None))


@pytest.mark.parametrize("quality", [100, 75])
def test_masks_in_a_lossy_file_are_refused_even_if_every_value_is_a_class(tmp_path, quality):
    table = {"classes": [{"id": k, "name": f"c{k}"} for k in range(255)]}
    root = write(tmp_path, [np.zeros((8, 8), np.uint8)], table)
    (root / "masks" / "p00.png").unlink()
    save(root / "images" / "p00.png", picture(0, SIZE))
    Image.fromarray(100 * drawn(0)).save(root / "masks" / "p00.jpg", quality=quality)
    with pytest.raises(DataError, match=r"p00\.jpg: .* (borders blend|stand only at borders).* JPEG changes values"):
        labels_of(root)


@pytest.mark.parametrize("smooth", [
    lambda image: image.resize((57, 45), Image.Resampling.BILINEAR),
    lambda image: image.resize((120, 96), Image.Resampling.BICUBIC),
    lambda image: image.filter(ImageFilter.GaussianBlur(1)),
])  # fmt: skip
def test_smoothed_masks_are_refused_with_their_share(tmp_path, smooth):
    values = np.array([0, 90, 200], np.uint8)
    masks = [smooth(Image.fromarray(values[drawn(k)])) for k in range(3)]
    with pytest.raises(DataError, match=r"[\d.]+ % of the borders blend .* smoothed .* to the nearest pixel"):
        opened(write(tmp_path, masks, None))
    (tmp_path / "labels.json").write_text(json.dumps({"classes": [{"id": k, "name": f"c{k}"} for k in range(255)]}))
    with pytest.raises(DataError, match=r"p00\.png: [\d.]+ % of the borders blend"):
        labels_of(tmp_path)


@pytest.mark.parametrize("suffix", ["webp", "jpg"])
def test_lossy_colour_masks_are_refused(tmp_path, suffix):
    root = write(tmp_path, [as_rgb(drawn(k)) for k in range(3)], TABLE, suffix)
    with pytest.raises(DataError, match=r"colour .* pixels \(.* %\) are outside .*PNG"):
        labels_of(root)
    (root / "labels.json").unlink()
    with pytest.raises(DataError, match="smoothed or compressed|more than 255 different"):
        opened(root)


def test_lossless_webp_masks_are_fine(tmp_path):
    truth = [drawn(k) for k in range(2)]
    root = write(tmp_path, [np.zeros((8, 8), np.uint8)])
    for k, labels in enumerate(truth):
        save(root / "images" / f"p{k:02}.png", picture(k, SIZE))
        (root / "masks" / f"p{k:02}.png").unlink(missing_ok=True)
        as_rgb(labels).save(root / "masks" / f"p{k:02}.webp", lossless=True)
    assert all(np.array_equal(*pair) for pair in zip(labels_of(root), truth, strict=True))


def test_drawn_masks_do_not_blend():
    assert max(find_blending(drawn(k) * np.uint8(scale)).share for k in range(8) for scale in (1, 40)) < 0.01
    assert find_blending(np.zeros((1, 1), np.uint8)).share == 0


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_image_and_mask_are_turned_by_one_rule(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(drawn(0)).transpose(
        {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    )
    root = write(tmp_path, [drawn(0)], {"classes": list(COLORS)})
    (root / "images" / "p00.png").unlink()
    (root / "masks" / "p00.png").unlink()
    stored.convert("RGB").save(root / "images" / f"p00.{suffix}", exif=exif)
    stored.save(root / "masks" / f"p00.{'png' if suffix == 'jpg' else suffix}", exif=exif)
    sample = opened(root).read(0)
    assert np.array_equal(sample.semantic.numpy(), drawn(0))
    assert sample.image.shape[1:] == SIZE


def test_an_image_that_is_turned_alone_is_said(tmp_path):
    root = write(tmp_path, [np.eye(64, dtype=np.uint8)], {"classes": ["a", "b"]})
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(root / "images" / "p00.png").save(root / "images" / "p00.png", exif=exif)
    dataset = opened(root)
    assert any(
        "of 1 images only the image" in note for note in label_notes(dataset.labels, {"all": survey_labels(dataset)})
    )


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n"])
def test_a_folder_with_a_damaged_mask_is_opened(tmp_path, content):
    """Beside palette files that differ; the damaged mask is named, and its neighbours are read."""
    root = write(tmp_path, [in_order_of_appearance(drawn(k)) for k in range(3)])
    (root / "masks" / "p01.png").write_bytes(content)
    dataset = opened(root)
    assert np.array_equal(dataset.read(2).semantic.numpy(), drawn(2))
    (problem,) = survey_labels(dataset).problems
    assert "masks/p01.png" in problem


def test_no_mask_is_decoded_to_compare_palettes_that_are_none(tmp_path, monkeypatch):
    root = write(tmp_path, [drawn(k) for k in range(3)], {"classes": list(COLORS)})
    monkeypatch.setattr(masks, "read_mask", None)
    assert len(opened(root)) == 3


def test_a_broken_image_is_no_problem_of_its_mask(tmp_path):
    root = write(tmp_path, [drawn(k) for k in range(3)], {"classes": list(COLORS)})
    (root / "images" / "p01.png").write_bytes(b"")
    dataset = opened(root)
    find_doubts({"all": dataset}).check()
    with pytest.raises(DataError, match=r"images/p01\.png: the file is empty"):
        dataset.read(1)


def test_scans_with_black_borders_are_not_the_same_image(tmp_path):
    """Files of one size that differ only in the middle: both ends alone would not tell them apart."""
    for k, split in enumerate(("train", "val")):
        scan = np.zeros((300, 300, 3), np.uint8)
        scan[140:160] = k + 1
        save(tmp_path / "images" / split / "a.bmp", scan)
        save(tmp_path / "masks" / split / "a.png", np.indices((300, 300))[0].astype(np.uint8) % 2)
    splits = {split: opened(tmp_path, split) for split in ("train", "val")}
    assert list(shared_images(splits)) == []
    splits["val"].items[0].picture.write_bytes(splits["train"].items[0].picture.read_bytes())
    assert list(shared_images(splits)) == ["1 images are in train and in val: a = a"]


def test_equal_images_of_public_data_sets_are_searched_only_if_asked(tmp_path):
    root = write_camvid(tmp_path)
    for name in ("val/1016E5_00000.png", "test/2016E5_00000.png"):
        (root / name).write_bytes((root / "train" / "0016E5_00000.png").read_bytes())
    splits = {s: open_dataset("camvid", root=root, split=s, options={}) for s in ("train", "val", "test")}
    assert not any("images are in" in note for note in find_doubts(splits).notes)
    assert sum("images are in" in note for note in find_doubts(splits, compare_published=True).notes) == 3


def test_splits_that_are_open_are_not_opened_again(tmp_path, monkeypatch):
    root = write(tmp_path, [drawn(k) for k in range(9)], {"classes": list(COLORS)})
    splits = {split: opened(root, split) for split in ("train", "val")}
    reopened, init = [], Folder.__init__

    def recording(self, root, split, **options):
        reopened.append(split)
        init(self, root, split, **options)

    monkeypatch.setattr(Folder, "__init__", recording)
    find_doubts(splits)
    assert reopened == ["test"]


def test_the_same_image_in_two_splits_is_named(tmp_path):
    for split, seeds in (("train", (0, 1)), ("val", (2, 1)), ("test", (1,))):
        for k in seeds:
            name = f"{split}/{split[0]}{k}.png"
            save(tmp_path / "images" / name, picture(k))
            save(tmp_path / "masks" / name, np.indices((24, 32))[0].astype(np.uint8) % 2)
    lines = list(shared_images({split: opened(tmp_path, split) for split in ("train", "val", "test")}))
    assert lines == [
        "1 images are in train and in val: t1 = v1",
        "1 images are in train and in test: t1 = t1",
        "1 images are in val and in test: v1 = t1",
    ]


def test_a_split_that_cannot_be_opened_is_not_called_fine(tmp_path):
    for split in ("train", "val"):
        for k in range(2):
            save(tmp_path / "images" / split / f"{k}.png", picture(k))
            save(tmp_path / "masks" / split / f"{k}.png", np.indices((24, 32))[k].astype(np.uint8) % 2)
    assert summarise(f"folder={tmp_path}", None, None, print), "test is empty, which is no fault"
    (tmp_path / "masks" / "val" / "1.png").unlink()
    assert not summarise(f"folder={tmp_path}", None, None, print)
