"""The contract of every data set in the table."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fake_datasets import FAKES
from smalti.data.dataset import DataError, open_dataset, parse_data_argument
from smalti.data.sets import DATASETS


def test_every_set_has_a_fake():
    assert set(FAKES) == set(DATASETS)


@pytest.mark.parametrize(("name", "split"), [(name, split) for name, fake in FAKES.items() for split in fake.splits])
def test_contract(name, split, tmp_path):
    fake = FAKES[name]
    dataset = open_dataset(name, root=fake.write(tmp_path), split=split, options=fake.options)
    assert (dataset.name, dataset.split, dataset.channels) == (name, split, 3)
    assert len(dataset) > 0
    names = [dataset.sample_name(k) for k in range(len(dataset))]
    assert len(set(names)) == len(names)
    for k, sample_name in enumerate(names):
        sample = dataset.read(k)
        assert sample.name == sample_name == Path(sample_name).name
        assert sample.image.dtype == torch.uint8
        assert sample.image.shape == (3, *sample.size)
        assert sample.image.is_contiguous()
        assert sample.semantic.dtype == torch.uint8
        assert sample.semantic.shape == sample.size
        values = set(np.unique(sample.semantic.numpy()).tolist())
        assert values <= {*range(len(dataset.labels)), 255}
        assert len(values) > 1
        if sample.instance_ids is not None:
            assert sample.instance_ids.dtype == torch.int32
            assert sample.instance_ids.shape == sample.size


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_reading_twice_and_in_a_worker_gives_the_same(name, tmp_path):
    fake = FAKES[name]
    dataset = open_dataset(name, root=fake.write(tmp_path), split="train", options=fake.options)
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(dataset.read(0).image, copy.read(0).image)
    assert torch.equal(dataset.read(0).semantic, copy.read(0).semantic)
    assert dataset.content_key(0) == copy.content_key(0)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"scenes"}))
def test_content_keys_follow_the_files(name, tmp_path):
    fake = FAKES[name]
    dataset = open_dataset(name, root=fake.write(tmp_path), split="train", options=fake.options)
    keys = [dataset.content_key(k) for k in range(len(dataset))]
    assert len(set(keys)) == len(keys)
    for path in dataset.items[0].files():
        os.utime(path, ns=(1, 1))
    assert dataset.content_key(0) != keys[0]
    assert dataset.content_key(1) == keys[1]


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"scenes"}))
def test_missing_files_say_what_to_do(name, tmp_path, monkeypatch):
    monkeypatch.delenv("SMALTI_DATA", raising=False)
    for root in (tmp_path / "nowhere", tmp_path, None):
        with pytest.raises(DataError, match=f"--data {name}=|expected a folder"):
            open_dataset(name, root=root, split="train", options={})


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_unknown_split_and_option_name_the_nearest(name, tmp_path):
    fake = FAKES[name]
    root = fake.write(tmp_path)
    with pytest.raises(DataError, match='did you mean "train"'):
        open_dataset(name, root=root, split="trian", options=fake.options)
    with pytest.raises(DataError, match='no option "sede"'):
        open_dataset(name, root=root, split="train", options={"sede": 1})


def test_unknown_set_names_the_nearest():
    with pytest.raises(DataError, match='did you mean "camvid"'):
        open_dataset("camvd", root=None, split="train", options={})


def test_options_are_read_as_their_type():
    dataset = open_dataset("scenes", root=None, split="val", options={"size": [64, 128], "length": "2"})
    assert len(dataset) == 2
    assert dataset.read(1).size == (64, 128)
    with pytest.raises(DataError, match="option length=many"):
        open_dataset("scenes", root=None, split="val", options={"length": "many"})


def test_data_argument(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert parse_data_argument(None, "camvid") == ("camvid", None)
    assert parse_data_argument("some/where", "camvid") == ("camvid", Path("some/where"))
    assert parse_data_argument(tmp_path, "camvid") == ("camvid", tmp_path)
    assert parse_data_argument("folder=x/y=z", "camvid") == ("folder", Path("x/y=z"))
    assert parse_data_argument("~/x", "camvid") == ("camvid", Path.home() / "x")
    assert parse_data_argument("a=b", "camvid") == ("camvid", Path("a=b"))
    assert parse_data_argument("scenes", "camvid") == ("scenes", None)
    assert parse_data_argument("scenes=", "camvid") == ("scenes", None)
    with pytest.raises(DataError, match='did you mean "folder"'):
        parse_data_argument("foldr=x", "camvid")
