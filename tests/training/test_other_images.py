"""A run that goes on with other images is refused, or records it."""

import json
import shutil
from collections import Counter

import pytest

import smalti
from fake_datasets import FolderShape, index_mask, picture, save, write_folder
from smalti.data import fingerprints
from smalti.data.dataset import WithMirrorImages, open_dataset
from smalti.data.fingerprints import ImageRecord
from smalti.models.create import find_recipe
from smalti.settings import override
from smalti.training.preparation import prepare
from smalti.training.resuming import ContinuedRun, Resume, continued_crop
from smalti.training.run import Reporting, run

TINY = {
    "weights": None, "config.encoder": "resnet10t", "config.widths": (8, 8, 8, 8, 8), "data.workers": 0,
    "data.cache": False, "training.steps_per_epoch": 1, "training.batch": 2, "training.examples": 0,
    "data.set": "folder", "augmentation.crop": None,
}  # fmt: skip


def made(root, epochs=1):
    return override(find_recipe("sis_cnn.quick"), {**TINY, "data.root": str(root), "training.epochs": epochs})


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of one epoch on a folder, and that folder."""
    root = tmp_path_factory.mktemp("begun")
    run(made(write_folder(root / "data")), root / "run", reporting=Reporting(write=lambda _: None))
    return root


@pytest.fixture
def copied(begun, tmp_path):
    return shutil.copytree(begun, tmp_path / "copy")


def split_of(copied, name):
    record = ImageRecord.read(copied / "run")
    return "training" if name in record.train else "validation"


def test_the_images_of_both_splits_are_recorded(begun):
    record = ImageRecord.read(begun / "run")
    assert len(record.train) > len(record.validation) > 0
    assert not set(record.train) & set(record.validation)
    assert record.changes == ()


def test_the_same_images_in_another_folder_go_on(copied):
    moved = shutil.move(copied / "data", copied / "moved")
    for path in (moved / "images").iterdir():
        path.touch()
    lines = []
    assert run(made(moved, epochs=2), copied / "run", resume=True, reporting=Reporting(write=lines.append))
    assert ImageRecord.read(copied / "run").changes == ()
    assert not any("images" in line and "note" in line for line in lines)


def changed_image(data, name):
    save(data / "images" / f"{name}.png", picture(99))


def changed_mask(data, name):
    save(data / "masks" / f"{name}.png", index_mask(99, [0, 1, 2, 255]))


@pytest.fixture
def files_read(monkeypatch):
    """How often each file was read for its fingerprint."""
    count, digest = Counter(), fingerprints.file_fingerprint

    def counting(files, *annotations, **options):
        count.update(files)
        return digest(files, *annotations, **options)

    monkeypatch.setattr(fingerprints, "file_fingerprint", counting)
    return count


def test_a_preparation_reads_each_file_once(tmp_path, monkeypatch, files_read):
    """Images of all splits are compared, and those of two recorded; a second preparation reads nothing."""
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    recipe = made(write_folder(tmp_path / "data"))
    images = prepare(recipe, lambda _: None).images
    assert len(files_read) == sum(1 for path in (tmp_path / "data").rglob("*.png"))
    assert set(files_read.values()) == {1}
    assert prepare(recipe, lambda _: None).images == images
    assert set(files_read.values()) == {1}


def test_mirror_images_are_not_read_again(tmp_path, files_read):
    folder = open_dataset("folder", root=write_folder(tmp_path), split="all", options={})
    found = fingerprints.fingerprints(WithMirrorImages(folder))
    assert list(found)[:3] == [f"{folder.sample_name(0)}{end}" for end in ("", "_horizontal", "_vertical")]
    assert len(set(found.values())) == len(folder)
    assert set(files_read.values()) == {1}


def removed(data, name):
    for kind in ("images", "masks"):
        (data / kind / f"{name}.png").unlink()


@pytest.mark.parametrize(
    ("change", "kind"), [(changed_image, "changed"), (changed_mask, "changed"), (removed, "missing")]
)
def test_other_images_are_refused_and_named(copied, change, kind):
    name = next(iter(ImageRecord.read(copied / "run").train))
    change(copied / "data", name)
    before = (copied / "run" / "used_images.json").read_text()
    with pytest.raises(ValueError, match=rf"training: .*1 {kind} \({name}\).*--allow-other-data"):
        run(made(copied / "data", epochs=2), copied / "run", resume=True)
    assert (copied / "run" / "used_images.json").read_text() == before


def test_other_images_that_are_allowed_are_recorded_and_in_the_protocol(copied):
    name = next(iter(ImageRecord.read(copied / "run").train))
    old = ImageRecord.read(copied / "run").train[name]
    changed_image(copied / "data", name)
    lines, out = [], copied / "run"
    recipe = made(copied / "data", epochs=2)
    assert run(recipe, out, Resume(allow_other_data=True), Reporting(write=lines.append))
    assert any(
        f"other images after epoch 1, which used_images.json records: training: 1 changed ({name})" in x for x in lines
    )
    record = ImageRecord.read(out)
    assert [change["epoch"] for change in record.changes] == [1]
    assert {old.image, record.train[name].image} <= record.used_images("training")
    found = smalti.evaluate(out, data=f"folder={copied / 'data'}", split="val")
    assert found["protocol"]["trained_on"] == "folder train; other images after epoch 1 (training: 1 changed)"


def test_a_run_without_a_record_goes_on_and_says_so(copied):
    (copied / "run" / "used_images.json").unlink()
    lines = []
    run(made(copied / "data", epochs=2), copied / "run", resume=True, reporting=Reporting(write=lines.append))
    assert any("does not record which images it began with" in line for line in lines)
    assert not ImageRecord.read(copied / "run").is_complete


def test_other_data_are_allowed_only_where_a_run_goes_on(tmp_path):
    with pytest.raises(ValueError, match="--allow-other-data belongs to --resume"):
        smalti.train("sis_cnn.quick", out=tmp_path / "run", allow_other_data=True)


def test_scenes_are_known_by_name(tmp_path):
    recipe = override(find_recipe("sis_cnn.quick"), {**TINY, "data.set": "scenes", "data.options": {"length": 2}})
    images = prepare(recipe, lambda _: None).images
    assert [fingerprint.image for fingerprint in images.train.values()] == [
        f"scenes {open_dataset('scenes', root=None, split='train', options={}).edition} {name}" for name in images.train
    ]


@pytest.mark.parametrize(("crop", "is_allowed"), [((64, 64), True), ((32, 32), False), (None, False)])
def test_the_crop_of_a_continued_run_is_that_it_began_with(tmp_path, crop, is_allowed):
    recipe = override(made(tmp_path), {"augmentation.crop": (64, 64)})
    for other_data in (False, True):
        continued = ContinuedRun(out=tmp_path, recipe=recipe, epochs=1, allow_other_data=other_data)
        if is_allowed or other_data:
            assert continued_crop(continued, crop) == (64, 64)
        else:
            with pytest.raises(ValueError, match=r"augmentation.crop=\(64, 64\)"):
                continued_crop(continued, crop)


def test_names_beyond_ascii_are_kept(tmp_path):
    root = write_folder(tmp_path / "data", FolderShape(stems=tuple(f"é {k} ü" for k in range(4))))
    lines = prepare(made(root), lambda _: None).images.to_text()
    (tmp_path / "used_images.json").write_text(lines, errors="surrogateescape")
    assert len(ImageRecord.read(tmp_path).train) + len(ImageRecord.read(tmp_path).validation) == 3
    assert json.loads(lines)["changes"] == []
