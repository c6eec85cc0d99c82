import copy
import json
import multiprocessing
import os
import random
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fake_datasets import FolderShape, save, write_camvid, write_folder
from smalti.data import cache
from smalti.data.annotated import AnnotatedPicture
from smalti.data.cache import CachedDataset, cache_folder, content_hash, remembered
from smalti.data.coco_json import CocoObjects, CocoPicture
from smalti.data.dataset import AtInputScale, CountIgnored, DataError, WithMirrorImages, open_dataset
from smalti.data.derive import WithDistances
from smalti.data.sets.coco import CocoItem
from smalti.data.settings_digest import SharedDigests, settings_digest
from smalti.labels import LabelSet
from smalti.recipe import InputPolicy

MAPS = ("image", "semantic", "instance_ids")


@pytest.fixture
def dataset(tmp_path):
    write_folder(tmp_path / "own", FolderShape(instances=True))
    return open_dataset("folder", root=tmp_path / "own", split="all", options={})


def equal(one, other):
    return one.name == other.name and all(
        type(a) is type(b) and a.dtype == b.dtype and torch.equal(a.as_subclass(Tensor), b.as_subclass(Tensor))
        for a, b in ((getattr(one, m), getattr(other, m)) for m in MAPS)
    )


class Counting(CachedDataset):
    """Counts how often the wrapped set is really read."""

    reads = 0

    def _store(self, path, sample):
        self.reads += 1
        super()._store(path, sample)


def test_second_reading_is_the_same_and_decodes_nothing(dataset, tmp_path):
    cached = Counting(dataset, tmp_path / "cache")
    first, second = cached.read(0), cached.read(0)
    assert equal(dataset.read(0), first)
    assert equal(first, second)
    assert cached.reads == 1
    assert equal(Counting(dataset, tmp_path / "cache").read(0), first)


def test_missing_truth_stays_missing(dataset, tmp_path):
    root = write_camvid(tmp_path)
    cached = CachedDataset(open_dataset("camvid", root=root, split="val", options={}), tmp_path / "cache")
    cached.read(0)
    assert cached.read(0).instance_ids is None


def test_a_changed_file_is_decoded_again(dataset, tmp_path):
    cached = CachedDataset(dataset, tmp_path / "cache")
    cached.read(0)
    mask = dataset.items[0].mask
    save(mask, np.full((24, 32), 2, np.uint8))
    os.utime(mask, ns=(5, 5))
    assert set(cached.read(0).semantic.flatten().tolist()) == {2}


def test_another_class_table_is_another_content(dataset, tmp_path):
    before = dataset.content_key(0)
    (tmp_path / "own" / "labels.json").write_text('{"classes": ["a", "b", "c", "d"]}')
    other = open_dataset("folder", root=tmp_path / "own", split="all", options={})
    assert other.content_key(0) != before


FILLED = AnnotatedPicture(
    name="a", picture=Path("a.png"), mask=Path("m.png"), instances=Path("i.png"), boxes=Path("b.xml"), no_instance=(9,),
    listed=CocoObjects(
        file=Path("l.json"), label_of={1: 2},
        picture=CocoPicture(file_name="a.png", size=(2, 3), annotations=b"[]"),
    ),
)  # fmt: skip
COCO_ITEM = CocoItem(
    picture=Path("a.png"), size=(2, 3), annotations=b"[]", label_of={1: 2}, map=Path("m.png"), kind="stuff"
)
TABLE = LabelSet(names=("a", "b"), things=frozenset({"b"}), title="letters", without_color=frozenset({"a"}))


def variants(value):
    """The value with each of its parts changed once, by its path."""
    if is_dataclass(value):
        for field in fields(value):
            for path, other in variants(getattr(value, field.name)):
                yield f"{field.name}{path}", lambda v=value, n=field.name, o=other: _set(v, n, o())
    elif isinstance(value, Mapping):
        yield "{value}", lambda: {key: number + 1 for key, number in value.items()}
        yield "{key}", lambda: {key + 1: number for key, number in value.items()}
    elif isinstance(value, Path):
        yield "", lambda: value.with_stem(f"{value.stem}2")
    elif isinstance(value, frozenset):
        yield "", frozenset
    elif isinstance(value, bool) or value is None:
        yield "", lambda: not value
    elif isinstance(value, int | float):
        yield "", lambda: value + 1
    elif isinstance(value, str | bytes | tuple):
        yield "", lambda: value + (value[:1] or " ")
    else:
        raise TypeError(f"say how a {type(value).__name__} varies")


def _set(value, name, other):
    """A copy with one field changed, past the checks of its class."""
    changed = copy.copy(value)
    object.__setattr__(changed, name, other)
    return changed


@pytest.mark.parametrize("shared", [None, SharedDigests()])
@pytest.mark.parametrize("value", [FILLED, COCO_ITEM, TABLE, InputPolicy(fit="pad", size=(2, 3))])
def test_every_field_is_part_of_a_digest(value, shared):
    digest = partial(settings_digest, shared=shared)
    made = {path: digest(change()) for path, change in variants(value)}
    assert len(made) >= len(fields(value))
    assert len({digest(value), *made.values()}) == len(made) + 1, made
    assert digest(copy.copy(value)) == digest(value)


class CountingMapping(dict):
    reads = 0

    def items(self):
        type(self).reads += 1
        return super().items()


def test_what_all_samples_share_is_digested_once(dataset):
    """The class table and the labels of a COCO file's categories; another table still counts."""
    label_of = CountingMapping({k: k for k in range(80)})
    listed = CocoObjects(file=Path("l.json"), label_of=label_of, picture=FILLED.listed.picture)
    dataset.items = [replace(item, listed=listed) for item in dataset.items]
    views = [dataset, CountIgnored(dataset)]
    keys = [view.content_key(k) for _ in range(3) for view in views for k in range(len(dataset))]
    assert len(set(keys)) == len(views) * len(dataset)
    assert CountingMapping.reads == 1
    dataset.labels = replace(dataset.labels, title=f"{dataset.labels.title}, again")
    assert dataset.content_key(0) not in keys


def test_what_a_digest_does_not_know_is_refused():
    with pytest.raises(TypeError, match="the content of a Generator is not known"):
        settings_digest(np.random.default_rng(0))
    assert len({settings_digest(v) for v in ((1, 2), [1, 2], ("1", 2), ((1,), 2), b"1", "1", 1, True, None)}) == 9


def test_every_attribute_of_a_view_is_part_of_its_keys(dataset):
    """Views that differ in anything, and the samples of one view, have keys of their own."""
    policies = (InputPolicy(fit="pad", size=(8, 8)), InputPolicy(fit="pad", size=(8, 16)))
    views = [*(AtInputScale(dataset, policy) for policy in policies), CountIgnored(dataset), WithMirrorImages(dataset),
             WithDistances(dataset, "instance"), WithDistances(dataset, "dwt")]  # fmt: skip
    other = WithDistances(dataset, "dwt")
    other.is_thing = ~other.is_thing
    keys = [view.content_key(k) for view in (*views, other) for k in range(len(dataset))]
    keys += [WithMirrorImages(dataset).content_key(k) for k in range(len(dataset), 3 * len(dataset))]
    assert len(set(keys)) == len(keys)
    assert CountIgnored(dataset).content_key(0) == CountIgnored(dataset).content_key(0)


def test_corrected_category_names_are_read_again(tmp_path):
    """The ids of a COCO file's categories stay, their names are swapped: the kept samples must not answer any more."""

    def labels(first, second):
        categories = [{"id": 1, "name": first}, {"id": 2, "name": second}]
        entry = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5], "area": 25}
        image = {"id": 1, "file_name": "a.png", "height": 24, "width": 32}
        content = {"images": [image], "annotations": [entry], "categories": categories}
        (root / "boxes" / "all.json").write_text(json.dumps(content))
        dataset = open_dataset("folder", root=root, split="all", options={})
        sample = CachedDataset(dataset, tmp_path / "cache").read(0)
        return [dataset.labels.names[k] for k in sample.instances.labels.tolist()]

    root = tmp_path / "own"
    (root / "boxes").mkdir(parents=True)
    save(root / "images" / "a.png", np.zeros((24, 32, 3), np.uint8))
    table = {"classes": ["background", {"name": "apple", "thing": True}, {"name": "pear", "thing": True}]}
    (root / "labels.json").write_text(json.dumps(table))
    assert labels("apple", "pear") == ["apple"]
    assert labels("pear", "apple") == ["pear"]


def test_all_maps_of_a_sample_are_kept(dataset, tmp_path):
    cached = CachedDataset(WithDistances(dataset, "instance"), tmp_path / "cache")
    first, second = cached.read(0), cached.read(0)
    assert torch.equal(first.distances.nan_to_num(), second.distances.nan_to_num())
    assert second.distance_weights is not None
    assert second.padding is None


def test_without_a_content_key_nothing_is_kept(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(type(dataset), "content_key", lambda self, index: None)
    CachedDataset(dataset, tmp_path / "cache").read(0)
    assert not (tmp_path / "cache").exists()


def test_scenes_of_other_seeds_sizes_and_splits_have_other_keys():
    keys = set()
    for options in ({"size": (64, 96)}, {"size": (96, 64)}, {"size": (64, 96), "seed": 1}):
        for split in ("train", "val"):
            scenes = open_dataset("scenes", root=None, split=split, options={**options, "length": 2})
            keys |= {scenes.content_key(0), scenes.content_key(1)}
    assert len(keys) == 12


@pytest.mark.parametrize("damage", [b"", b"\x10\0\0\0\0\0\0\0{broken", None])
def test_damaged_files_are_replaced(dataset, tmp_path, damage):
    cached = CachedDataset(dataset, tmp_path / "cache")
    cached.read(0)
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert equal(cached.read(0), dataset.read(0))
    assert file.read_bytes() == whole


def test_a_full_disk_warns_once_and_leaves_no_file(dataset, tmp_path, monkeypatch):
    def full(tensors, path):
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", full)
    cached = CachedDataset(dataset, tmp_path / "cache")
    with pytest.warns(UserWarning, match="No space left") as caught:
        samples = [cached.read(k) for k in range(3)]
    assert len(caught) == 1
    assert all(equal(sample, dataset.read(k)) for k, sample in enumerate(samples))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_the_last_of_the_disk_is_left_free(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEEP_FREE", 2**60)
    with pytest.warns(UserWarning, match="less than 1073741824 GiB of the disk are free"):
        CachedDataset(dataset, tmp_path / "cache").read(0)


def test_changing_a_cached_sample_does_not_change_the_file(dataset, tmp_path):
    cached = CachedDataset(dataset, tmp_path / "cache")
    cached.read(0)
    cached.read(0).image.as_subclass(Tensor).zero_()
    assert equal(cached.read(0), dataset.read(0))


def _read_and_delete(dataset, folder, seed, failures):
    draw = random.Random(seed)
    cached = CachedDataset(dataset, folder)
    expected = [dataset.read(k) for k in range(3)]
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        k = draw.randrange(3)
        try:
            if not equal(cached.read(k), expected[k]):
                failures.put(f"sample {k} differs")
        except Exception as error:
            failures.put(repr(error))
        if draw.random() < 0.3:
            for path in folder.rglob("*.safetensors"):
                path.unlink(missing_ok=True)


def test_several_processes_share_the_folder(dataset, tmp_path):
    context = multiprocessing.get_context("fork")
    failures = context.Queue()
    arguments = [(dataset, tmp_path / "cache", seed, failures) for seed in range(4)]
    processes = [context.Process(target=_read_and_delete, args=a) for a in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [p.exitcode for p in processes] == [0, 0, 0, 0]
    assert failures.empty(), failures.get()
    assert not [p for p in (tmp_path / "cache").rglob("*.part")]


def test_folder_by_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("SMALTI_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "smalti"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "smalti"
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_content_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"gone\.png"):
        content_hash([tmp_path / "gone.png"])


def test_remembered_values(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    calls = []
    for _ in range(2):
        assert remembered("kind", "key", lambda: calls.append(1) or [1, 2]) == [1, 2]
        assert remembered("kind", None, lambda: calls.append(2) or [3]) == [3]
    assert calls == [1, 2, 2]
    (tmp_path / "kind" / "key.json").write_text("[1,")
    assert remembered("kind", "key", lambda: [4]) == [4]
