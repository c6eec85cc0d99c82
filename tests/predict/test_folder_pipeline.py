"""Many pictures in order, what may go wrong on the way, and going on after an interruption."""

import errno
import io
import json
import os
import struct
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from smalti.containers import ClassScores, Instances, Predictions
from smalti.data.pictures import picture_size, read_picture
from smalti.files import claimed
from smalti.labels import LabelSet
from smalti.predict import folder, pipeline
from smalti.predict.folder import find_files, predict_files
from smalti.predict.journal import JOURNAL
from smalti.predict.options import Options
from smalti.predict.pipeline import AHEAD, BEHIND, Steps, run
from smalti.predict.predictor import Predictor
from smalti.predict.writers import WRITERS, NoSuchAnswerError

LABELS = LabelSet(names=("dark", "bright"), things=frozenset({"bright"}))
PICTURE = torch.zeros(3, 4, 4, dtype=torch.uint8)
ANSWER = Predictions(labels=LABELS, semantic=torch.zeros(4, 4, dtype=torch.uint8))


def bright(picture):
    """A fake network: what is brighter than 127, as class and as one object."""
    semantic = (picture[0] > 127).to(torch.uint8)
    objects = Instances.from_ids(semantic.numpy().astype(np.int32), [1], [0.5])
    return Predictions(labels=LABELS, semantic=semantic, difficulty=semantic / 2, instances=objects)


class Network(Predictor):
    """Counts its pictures; may be told to fail."""

    at_once = 1

    def __init__(self):
        self.seen, self.before = 0, lambda seen: None

    def __call__(self, picture):
        self.before(self.seen)
        self.seen += 1
        return bright(picture)


@pytest.fixture
def network(monkeypatch):
    fake = Network()
    monkeypatch.setattr(folder, "load", lambda *_: fake)
    monkeypatch.setattr(folder, "_identity", lambda model: model.read_text() if model.is_file() else str(model))
    monkeypatch.setattr("smalti.predict.value_ranges.trained_value_range", lambda *_: None)
    return fake


def pictures(place, count=6):
    place.mkdir()
    for k in range(count):
        array = np.zeros((12, 16, 3), np.uint8)
        array[: k + 1] = 255
        Image.fromarray(array).save(place / f"p{k}.png")
    return sorted(place.iterdir())


def contents(out):
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def answers(out):
    """Without the journal, which says when each file was written."""
    return {name: content for name, content in contents(out).items() if name != JOURNAL}


@pytest.mark.parametrize("at_once", [1, 3])
def test_results_come_in_order_though_steps_take_unlike_times(at_once):
    settled, threads, predicting, most = [], threading.active_count(), [], []

    def slow(picture):
        predicting.append(1)
        most.append(len(predicting))
        time.sleep(0.02 if len(most) % 4 == 0 else 0.005)
        predicting.pop()
        return ANSWER

    def write(job, picture, answer):
        time.sleep(0.02 if job % 3 == 0 else 0)
        return job

    steps = Steps(read=lambda _: PICTURE, predict=slow, write=write,
                  settle=lambda job, result: settled.append((job, result)))  # fmt: skip
    run(range(12), steps, at_once)
    assert settled == [(k, k) for k in range(12)]
    assert threading.active_count() == threads
    assert max(most) == at_once


@pytest.mark.parametrize(("pixels", "most"), [(16, AHEAD + BEHIND + 2), (pipeline.MOST_PIXELS, AHEAD + 2)])
def test_few_pictures_are_held_at_a_time(monkeypatch, pixels, most):
    """Also where writing is slow; large ones are not held back at all."""
    monkeypatch.setattr(pipeline, "MOST_PIXELS", 16 * BEHIND * 2 if pixels == 16 else 16)
    lock, held, highest = threading.Lock(), [0], [0]

    def change(by):
        with lock:
            held[0] += by
            highest[0] = max(highest[0], held[0])

    def read(job):
        change(1)
        return PICTURE

    def write(job, picture, answer):
        time.sleep(0.01)

    run(range(20), Steps(read=read, predict=lambda _: ANSWER, write=write, settle=lambda *_: change(-1)))
    assert held[0] == 0
    assert highest[0] <= most + 1


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("step", ["read", "predict", "write", "settle"])
@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_hangs_whatever_is_raised_where(step, error, at_once):
    settled, threads = [], threading.active_count()

    def fail(here, job):
        if here == step and job == 3:
            raise error("on purpose")

    current = iter(range(100))

    def settle(job, result):
        settled.append(job)
        fail("settle", job)
        if isinstance(result, RuntimeError):
            raise result

    steps = Steps(
        read=lambda job: fail("read", job) or PICTURE,
        predict=lambda _: fail("predict", next(current)) or ANSWER,
        write=lambda job, *_: fail("write", job),
        settle=settle,
    )
    if error is ValueError and step != "settle":
        run(range(9), steps, at_once)
        assert settled == list(range(9))
    else:
        with pytest.raises(error, match="on purpose"):
            run(range(9), steps, at_once)
        assert settled == sorted(settled)
        if at_once == 1 or step != "predict":  # else nobody knows which job is the third to be predicted
            assert settled[:3] == [0, 1, 2]
    assert threading.active_count() == threads


@pytest.mark.parametrize(("sizes", "together"), [
    ([(12, 16)], False), ([(12, 16)] * 3, True), ([(12, 16), (2000, 2200)], False),
])  # fmt: skip
def test_small_pictures_are_computed_side_by_side(network, tmp_path, monkeypatch, sizes, together):
    """Of large ones few could be held, so each gets all threads."""
    asked = []
    monkeypatch.setattr(folder, "load", lambda model, execution, changes: asked.append(execution) or network)
    for k, (height, width) in enumerate(sizes):
        Image.new("RGB", (width, height)).save(tmp_path / f"{k}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    files = [*sorted(tmp_path.glob("?.png")), *([tmp_path / "broken.png"] if together else [])]
    predict_files(tmp_path, files, tmp_path / "out", "labels")
    assert [(one.side_by_side, one.pictures) for one in asked] == [(together, len(files))]


def test_an_interrupted_run_goes_on(network, tmp_path):
    files, show = pictures(tmp_path / "in"), "both,instances,difficulty,panoptic,boxes,cityscapes"
    assert predict_files(tmp_path, files, tmp_path / "whole", show) == []

    def interrupt(seen):
        if seen == 9:
            raise KeyboardInterrupt

    network.before = interrupt
    with pytest.raises(KeyboardInterrupt, match=r"stopped after 3 of 6 pictures.*--resume goes on"):
        predict_files(tmp_path, files, tmp_path / "parts", show)
    assert len(json.loads((tmp_path / "parts" / "panoptic.json").read_text())["images"]) == 3
    network.before, network.seen, steps = (lambda _: None), 0, []
    resume = Options(resume=True)
    assert predict_files(tmp_path, files, tmp_path / "parts", show, lambda *s: steps.append(s), options=resume) == []
    assert network.seen == 3
    assert steps == [(4, 6), (5, 6), (6, 6)]
    assert answers(tmp_path / "parts") == answers(tmp_path / "whole")
    assert predict_files(tmp_path, files, tmp_path / "parts", show, options=resume) == []
    assert network.seen == 3  # nothing was left
    assert answers(tmp_path / "parts") == answers(tmp_path / "whole")
    predict_files(tmp_path, files, tmp_path / "parts", show)
    assert network.seen == 9  # all again without --resume


def test_what_has_changed_is_done_again(network, tmp_path):
    files, out, resume = pictures(tmp_path / "in"), tmp_path / "out", Options(resume=True)
    model = tmp_path / "model.safetensors"
    model.write_bytes(b"one")

    def again(show="labels", options=resume):
        before = network.seen
        assert predict_files(model, files, out, show, options=options) == []
        return network.seen - before

    assert again() == 6  # nothing there yet
    assert again() == 0
    (out / "p2.png").unlink()
    files[4].write_bytes(files[5].read_bytes())
    assert again() == 2
    assert np.array(Image.open(out / "p4.png")).sum() == 6 * 16
    assert again("both") == 6
    assert again(options=Options(resume=True, changes={"config.refine_budget": "0.5"})) == 6
    model.write_bytes(b"two")
    assert again(options=resume) == 6
    journal = out / "predictions.jsonl"
    journal.write_text(journal.read_text()[:-20])  # cut off, as by a power failure
    assert again() == 1
    journal.write_text("no journal")
    with pytest.raises(ValueError, match="7 files would be replaced that smalti did not write"):
        again()
    assert again(options=Options(resume=True, overwrite=True)) == 6


def test_failures_are_tried_again(network, tmp_path):
    files, out = pictures(tmp_path / "in"), tmp_path / "out"
    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:40])
    (failed,) = predict_files(tmp_path, files, out, "labels")
    assert failed.startswith(f"{files[1]}: ")
    files[1].write_bytes(whole)
    assert predict_files(tmp_path, files, out, "labels", options=Options(resume=True)) == []
    assert network.seen == 6


def test_a_full_disk_ends_the_run_and_leaves_no_half_file(network, tmp_path, monkeypatch):
    files, out = pictures(tmp_path / "in"), tmp_path / "out"
    original = Path.write_bytes

    def write_bytes(place, content):
        if "p3" in place.name:
            original(place, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(place, content)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(OSError, match="No space left"):
        predict_files(tmp_path, files, out, "labels")
    assert {p.name for p in out.glob("*")} >= {"p0.png", "p1.png", "p2.png", "predictions.jsonl"}
    assert not (out / "p3.png").exists()
    assert not [p for p in out.glob(".*")]
    monkeypatch.setattr(Path, "write_bytes", original)
    network.seen = 0
    assert predict_files(tmp_path, files, out, "labels", options=Options(resume=True)) == []
    assert network.seen <= 3


def test_two_runs_do_not_write_into_one_folder(network, tmp_path):
    files, out = pictures(tmp_path / "in"), tmp_path / "out"
    with claimed(out), pytest.raises(ValueError, match="in use: another command or thread"):
        predict_files(tmp_path, files, out, "labels")
    out.joinpath("file").touch()
    with pytest.raises(ValueError, match="file is a file, and answers are written into a folder"):
        predict_files(tmp_path, files, out / "file", "labels")
    with pytest.raises(ValueError, match="file is a file, and answers are written into a folder"):
        predict_files(tmp_path, files, out / "file" / "sub", "labels")


def test_an_answer_that_another_picture_replaced_is_made_again(network, tmp_path):
    """Two pictures of one name, in turns; and a file that was another one meanwhile."""
    out, going_on = tmp_path / "out", Options(resume=True)
    (first, other), (second,) = pictures(tmp_path / "a", 2), pictures(tmp_path / "b", 1)
    Image.new("RGB", (40, 30)).save(second)
    for count, files in enumerate(([first, other], [second], [first, other], [first, other]), start=2):
        assert predict_files(tmp_path, files, out, "labels,instances", options=going_on) == []
        assert picture_size(out / "p0.png") == picture_size(files[0])
        assert network.seen == min(count, 4)
        assert len(json.loads((out / "instances.json").read_text())) == len(files)
    whole, then = first.read_bytes(), first.stat()
    for content in (second.read_bytes(), whole):
        first.write_bytes(content)
        os.utime(first, ns=(then.st_atime_ns, then.st_mtime_ns))
        assert predict_files(tmp_path, [first], out, "labels,instances", options=going_on) == []
        assert picture_size(out / "p0.png") == picture_size(first)


def test_results_and_the_table_of_images_are_of_the_same_run(network, tmp_path):
    """A resumed run numbers what was answered before and what was not by one rule; a second batch has its own table."""
    first, second = pictures(tmp_path / "in", 4), pictures(tmp_path / "more", 7)[4:]
    out, resume = tmp_path / "out", Options(resume=True)
    for files in (first[1:3], first, second, first):
        predict_files(tmp_path, files, out, "instances", options=resume)
        table = json.loads((out / "images.json").read_text())["images"]
        results = json.loads((out / "instances.json").read_text())
        assert [(i["id"], i["file_name"]) for i in table] == [(k, f.name) for k, f in enumerate(files, start=1)]
        assert sorted({r["image_id"] for r in results}) == [i["id"] for i in table]
    assert network.seen == 7  # each image once


def test_a_picture_meant_twice_is_answered_once(tmp_path):
    files = pictures(tmp_path / "in", 3)
    (tmp_path / "in" / "link.png").symlink_to(files[0])
    twice = [files[1], tmp_path / "in", tmp_path / "in" / ".." / "in" / files[1].name]
    assert find_files(twice, tmp_path / "out") == [files[1], tmp_path / "in" / "link.png", files[0], files[2]]
    (far,) = pictures(tmp_path / "far", 1)
    (tmp_path / "far" / "deep").mkdir()
    (tmp_path / "in" / "down").symlink_to(tmp_path / "far" / "deep")
    around = tmp_path / "in" / "down" / ".." / far.name  # another picture than in/p0.png, whatever the letters say
    assert find_files([files[0], around], tmp_path / "out") == [files[0], around]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_what_fails_for_one_picture_stops_no_other(network, tmp_path, error):
    files, out = pictures(tmp_path / "in"), tmp_path / "out"

    def fail(seen):
        if seen in failing:
            network.seen += 1
            raise error("on purpose")

    network.before, failing = fail, {1, 2, 4}
    assert predict_files(tmp_path, files, out, "labels,instances") == [f"{files[k]}: on purpose" for k in (1, 2, 4)]
    network.seen, failing = 0, {2, 3, 4}
    with pytest.raises(ValueError, match=r"(?s)3 pictures failed one after the other; --resume.*p4.png: on purpose"):
        predict_files(tmp_path, files, out, "labels,instances")
    answered = {image["file_name"] for image in json.loads((out / "images.json").read_text())["images"]}
    assert answered - {"p5.png"} == {"p0.png", "p1.png"}  # of the last nobody knows whether it was begun
    before = contents(out)
    network.seen, failing = 0, set(range(6))
    with pytest.raises(ValueError, match="3 pictures failed"):
        predict_files(tmp_path, files, out, "labels,instances")
    assert contents(out) == before  # nothing was answered, so nothing is replaced


def test_asking_for_what_the_network_does_not_know_leaves_earlier_answers_alone(network, tmp_path):
    files, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    predict_files(tmp_path, files, out, "instances")
    before = contents(out)
    assert "instances.json" in before
    for wish in ("instances,edges", "overlay,edges"):
        with pytest.raises(NoSuchAnswerError, match="does not know edges"):
            predict_files(tmp_path, pictures(tmp_path / wish, 3), out, wish)
        assert contents(out) == before
    network.seen = 0
    assert predict_files(tmp_path, files, out, "instances", options=Options(resume=True)) == []
    assert network.seen == 0  # the journal, too, is that of the first run


def test_a_name_too_long_for_an_answer_is_told_of_that_picture(network, tmp_path):
    files = pictures(tmp_path / "in", 2)
    long = files[0].with_name("x" * 248 + ".png")
    long.write_bytes(files[0].read_bytes())
    (failed,) = predict_files(tmp_path, [*files, long], tmp_path / "out", "labels")
    assert "too long" in failed
    assert (tmp_path / "out" / "p1.png").exists()


NAMES = ["...png", "..png.png", ".hidden.png", "ünï çødé 图.png", "two\nlines.png", "a;rm -rf b.png", "back\\slash.png",
         "x" * 200 + ".png", os.fsdecode(b"no utf-8 \xff.png"), "-o.png", "%2e%2e%2fup.png"]  # fmt: skip


def test_answers_stay_in_their_folder_whatever_pictures_are_called(network, tmp_path):
    """And each has its own."""
    place, out = tmp_path / "a" / "in", tmp_path / "a" / "out"
    place.mkdir(parents=True)
    for name in NAMES:
        Image.new("RGB", (16, 12)).save(place / name, "PNG")
    files, kinds = [place / name for name in NAMES], ["both", "instances", "boxes", "cityscapes", "difficulty"]
    files.append(tmp_path / "a" / "out" / ".." / "in" / NAMES[2])
    before = {p for p in tmp_path.rglob("*") if out not in p.parents}
    assert predict_files(tmp_path, files, out, kinds) == []
    assert {p for p in tmp_path.rglob("*") if out not in p.parents} - {out} == before
    assert len([p for p in out.iterdir() if p.name.endswith("_overlay.jpg")]) == len(files)
    lines = (out / "boxes_bright.txt").read_bytes().splitlines()
    assert all(len(line.split()) == 6 for line in lines)
    assert len(json.loads((out / "instances.json").read_text())) == len(files)


@pytest.mark.parametrize("kind", list(WRITERS))
def test_no_kind_writes_outside_the_names_it_claims(kind, network, tmp_path):
    """So that no answer takes the place of another picture's, or of a picture."""
    (file,) = pictures(tmp_path / "in", 1)
    answer = bright(read_picture(file))
    answer = Predictions(**{**vars(answer), "edges": answer.difficulty, "distances": answer.difficulty,
                            "scores": ClassScores.of(torch.rand(2, 12, 16)), "labels": LABELS})  # fmt: skip
    (tmp_path / "out").mkdir()
    writer = WRITERS[kind](tmp_path / "out")
    writer.add(file, "a b", np.zeros((12, 16, 3), np.uint8), answer)
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"{writer.stem('a b')}{ending}" for ending in writer.endings}
    assert written <= folder._claims("a b")


def test_answers_in_the_pictures_own_folder(network, tmp_path):
    """Answers of an earlier run are pictures there; nothing is replaced."""
    files = pictures(tmp_path / "in", 2)
    with pytest.raises(ValueError, match="would be taken for pictures the next time"):
        find_files([tmp_path / "in"], tmp_path / "in")
    with pytest.raises(ValueError, match="lies in the folder of the answers"):
        find_files([tmp_path / "in"], tmp_path)
    with pytest.raises(ValueError, match="would replace a picture"):
        predict_files(tmp_path, files, tmp_path / "in", "overlay")
    out = tmp_path / "in" / "deep" / "out"
    assert predict_files(tmp_path, find_files([tmp_path / "in"], out), out, "overlay") == []
    assert find_files([tmp_path / "in"], out) == files


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width, height):
    """A picture of a few bytes whose header says another size."""
    header = struct.pack(">4sIIBBBBB", b"IHDR", width, height, 8, 2, 0, 0, 0)
    whole = encoded(Image.new("RGB", (8, 8)), "PNG")
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


GREY = Image.new("RGB", (16, 12), (200, 200, 200))
REFUSED = {
    "empty.png": (b"", "0 bytes"),
    "text.png": (b"not a picture at all", "not a picture"),
    "half.jpg": (encoded(Image.effect_noise((64, 48), 90), "JPEG")[:900], "cut off"),
    "bomb.png": (png_claiming(40_000, 40_000), "pixels are more than 536870912: cut it into tiles"),
}
ROTATED = Image.Exif()
ROTATED[0x0112] = 6
TAKEN = {
    "one.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), (1, 1)),
    "long.png": (encoded(Image.new("RGB", (40_000, 10)), "PNG"), (10, 40_000)),
    "tall.png": (encoded(Image.new("RGB", (10, 40_000)), "PNG"), (40_000, 10)),
    "deep.png": (encoded(Image.fromarray(np.full((12, 16), 60000, np.uint16)), "PNG"), (12, 16)),
    "floats.tif": (encoded(Image.new("F", (16, 12), 0.8), "TIFF"), (12, 16)),
    "cmyk.jpg": (encoded(GREY.convert("CMYK"), "JPEG"), (12, 16)),
    "palette.png": (encoded(GREY.quantize(), "PNG"), (12, 16)),
    "moving.gif": (encoded(GREY.quantize(), "GIF", save_all=True, append_images=[Image.new("P", (16, 12))]), (12, 16)),
    "turned.jpg": (encoded(GREY, "JPEG", exif=ROTATED), (16, 12)),
}


def test_bad_pictures_are_named_and_odd_ones_answered(network, tmp_path):
    place, out = tmp_path / "in", tmp_path / "out"
    place.mkdir()
    for name, (content, _) in {**REFUSED, **TAKEN}.items():
        (place / name).write_bytes(content)
    failed = predict_files(tmp_path, find_files([place], out), out, "both,polygons")
    assert len(failed) == len(REFUSED)
    for name, (_, message) in REFUSED.items():
        (line,) = [line for line in failed if f"/{name}" in line]
        assert message in line
    for name, (_, size) in TAKEN.items():
        found = np.array(Image.open((out / name).with_suffix(".png")))
        assert found.shape == size
        assert (found == (0 if name in ("one.png", "long.png", "tall.png") else 1)).all()
    assert {p.stem.removesuffix("_overlay") for p in out.iterdir()} == {*(n[:-4] for n in TAKEN), "predictions"}


def test_a_file_that_may_not_be_read(network, tmp_path, monkeypatch):
    files, out = pictures(tmp_path / "in", 2), tmp_path / "out"
    original = type(files[0]).read_bytes

    def read(path):
        if path.name == "p0.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path)

    monkeypatch.setattr(type(files[0]), "read_bytes", read)
    assert predict_files(tmp_path, files, out, "labels") == [f"{files[0]}: cannot be read: Permission denied"]
    assert (out / "p1.png").exists()
