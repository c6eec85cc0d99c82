"""Files that people put into the folder of the answers are not replaced, whatever is asked for."""

import json
import os
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image

from smalti.containers import Instances, Predictions
from smalti.draw import image_files
from smalti.labels import LabelSet
from smalti.ownership import state_of
from smalti.predict import folder, sources
from smalti.predict.folder import predict_files
from smalti.predict.journal import JOURNAL, Job, Journal
from smalti.predict.options import Options
from smalti.predict.predictor import Predictor
from smalti.predict.sources import Telling, predict_sources

LABELS = LabelSet(names=("dark", "bright"), things=frozenset({"bright"}))
KINDS = "labels,overlay,instances,panoptic,boxes,cityscapes,difficulty,polygons"
OVERWRITE = Options(overwrite=True)


class Network(Predictor):
    at_once = 1

    def __init__(self):
        self.seen = 0

    def __call__(self, picture):
        self.seen += 1
        semantic = (picture[0] > 127).to(torch.uint8)
        objects = Instances.from_ids(semantic.numpy().astype(np.int32), [1], [0.5])
        return Predictions(labels=LABELS, semantic=semantic, difficulty=semantic / 2, instances=objects)


@pytest.fixture
def network(monkeypatch):
    fake = Network()
    for place in (folder, sources):
        monkeypatch.setattr(place, "load", lambda *_: fake)
    monkeypatch.setattr(folder, "_identity", str)
    return fake


@pytest.fixture
def files(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(4):
        array = np.zeros((12, 16, 3), np.uint8)
        array[: k + 1] = 255
        Image.fromarray(array).save(tmp_path / "in" / f"p{k}.png")
    return sorted((tmp_path / "in").iterdir())


def refused(network, files, out, show, message, **options):
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    network.seen = 0
    with pytest.raises(ValueError, match=message):
        predict_files(out, files, out, show, options=Options(**options))
    assert network.seen == 0
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("resume", [False, True])
def test_hand_made_masks_are_not_replaced(network, files, tmp_path, resume):
    out = tmp_path / "masks"
    out.mkdir()
    for k in range(4):
        (out / f"p{k}.png").write_bytes(b"made by hand")
    message = r"4 files would be replaced.*p0\.png, .*p1\.png, .*p2\.png and 1 more\. .*--out.*--overwrite"
    refused(network, files, out, "labels", message, resume=resume)
    assert predict_files(out, files, out, "overlay") == []  # other names
    refused(network, files, out, "labels", message, resume=resume)  # a journal now stands beside them
    assert predict_files(out, files, out, "labels", options=OVERWRITE) == []
    assert (out / "p0.png").read_bytes() != b"made by hand"
    assert predict_files(out, files, out, "labels") == []  # which this package wrote


@pytest.mark.parametrize("name", [
    "p1.png", "p2_overlay.jpg", "p0_instances.png", "p0_objects.jpg", "p0_panoptic.png", "p3_boxes.jpg", "p1.txt",
    "p1_masks/000.png", "p0_difficulty.jpg", "p0.geojson", "instances.json", "panoptic.json", "boxes.json",
    "boxes_bright.txt", "difficulty.csv", JOURNAL,
])  # fmt: skip
def test_each_kind_of_file_is_guarded(network, files, tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("by hand")
    refused(network, files, out, KINDS, f"1 file would be replaced that smalti did not write.*{name.split('/')[0]}")


@pytest.mark.parametrize("name", ["p1.png", "p2_overlay.jpg", "p1_masks/000.png", "instances.json", "boxes_bright.txt"])
def test_what_a_person_changed_is_theirs(network, files, tmp_path, name):
    """Of the same length, too."""
    out = tmp_path / "out"
    predict_files(out, files, out, KINDS)
    predict_files(out, files[:2], out, KINDS)  # the other answers are remembered
    time.sleep(0.01)
    (out / name).write_bytes((out / name).read_bytes()[::-1])
    refused(network, files, out, KINDS, f"1 file .*{name.split('/')[0]}")
    refused(network, files, out, KINDS, "1 file", changes={"config.a": "1"}, resume=True)


def test_a_file_put_into_a_folder_of_masks_is_seen(network, files, tmp_path):
    out = tmp_path / "out"
    predict_files(out, files, out, "cityscapes")
    (out / "p1_masks" / "notes.txt").touch()
    refused(network, files, out, "cityscapes", "p1_masks")


def test_what_is_passed_over_may_be_changed(network, files, tmp_path):
    """A corrected answer stays through `--resume`, which does not write it."""
    out = tmp_path / "out"
    predict_files(out, files[:3], out, "labels")
    (out / "p1.png").write_bytes(b"corrected by hand")
    assert predict_files(out, files, out, "labels", options=Options(resume=True)) == []
    assert (out / "p1.png").read_bytes() == b"corrected by hand"
    refused(network, files, out, "labels", r"1 file .*p1\.png")


def test_own_answers_are_replaced_after_a_run_was_killed(files, tmp_path):
    """What was being written when the process ended has no known state; it is the package's all the same."""
    out, made_by = tmp_path / "out", {"model": "a"}
    out.mkdir()
    job = Job.of(files[0], "p0", ["p0.png", "p0_overlay.jpg"])
    with Journal(out, made_by, resume=False) as journal:
        journal.begin(job)
        (out / "p0.png").write_bytes(b"an answer")
    Journal(out, made_by, resume=True).check_replaceable([job], ())
    (out / "p1.png").write_bytes(b"by hand")
    with pytest.raises(ValueError, match="1 file would be replaced"):
        Journal(out, made_by, resume=True).check_replaceable([job, Job.of(files[1], "p1", ["p1.png"])], ())


def test_an_answer_that_failed_and_was_made_by_hand_is_theirs(network, files, tmp_path, monkeypatch):
    out, original = tmp_path / "out", image_files.write_bytes

    def write_bytes(path, content):
        if path.name == "p3.png":
            raise ValueError("on purpose")
        original(path, content)

    monkeypatch.setattr(image_files, "write_bytes", write_bytes)
    assert len(predict_files(out, files, out, "labels")) == 1
    (out / "p3.png").write_bytes(b"made by hand")
    refused(network, files, out, "labels", r"1 file .*p3\.png")


def test_answers_of_earlier_versions_are_known_by_their_names(network, files, tmp_path):
    """Their journals name pictures, not files."""
    out = tmp_path / "out"
    predict_files(out, files[:3], out, "both,instances")
    lines = [json.loads(line) for line in (out / JOURNAL).read_text().splitlines()]
    old = [{"made_by": lines[0]["made_by"]}, *(line for line in lines if "picture" in line)]
    (out / JOURNAL).write_text("".join(f"{json.dumps(line)}\n" for line in old))
    (out / "p3.png").write_bytes(b"by hand")
    refused(network, files, out, "both", r"1 file .*p3\.png")
    assert predict_files(out, files[:3], out, "labels") == []
    assert predict_files(out, files[:3], out, "both,instances") == []


def test_videos_and_rasters_are_asked_for_before_anything_is_computed(network, files, tmp_path):
    pytest.importorskip("av")
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "drive.mp4").write_bytes(b"no video")
    telling = Telling(line=lambda _: None, bar=lambda _: nullcontext(lambda done, total: None))
    for show, name in (("overlay", "drive_overlay.mp4"), ("labels", "drive_labels.mkv")):
        (out / name).write_bytes(b"by hand")
        with pytest.raises(ValueError, match=f"1 file would be replaced.*{name}"):
            predict_sources("m", [str(files[0]), str(tmp_path / "drive.mp4")], out, show, telling=telling,
                            options=Options())  # fmt: skip
        assert network.seen == 0


def test_many_files_are_checked_fast(unchecked, files, tmp_path):
    out, count = tmp_path / "out", 20_000
    out.mkdir()
    jobs = [Job(file=files[0], name=f"p{k}", state=(0, 0), answers=(f"p{k}.png",)) for k in range(count)]
    states = {}
    for job in jobs:
        os.mknod(out / job.answers[0])
        states[job.answers[0]] = state_of(out / job.answers[0])
    (out / JOURNAL).write_text(json.dumps({"made_by": {}, "files": states}) + "\n")
    begin = time.process_time()
    Journal(out, {}, resume=False).check_replaceable(jobs, ("instances.json",))
    assert time.process_time() - begin < 2  # with shapes and types checked; 0.6 s without
