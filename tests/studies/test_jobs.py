"""Jobs side by side: what begins, and what is said, when one fails, is killed or is interrupted."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from smalti.models.create import find_recipe
from smalti.studies.jobs import Job, one_by_one, side_by_side


def work(job, write):
    """What a job does is its name; that it has begun is a file."""
    (job.folder / job.name).touch()
    match job.name.split("_")[0]:
        case "fail":
            raise (RuntimeError if job.name == "fail_memory" else ValueError)(f"cannot do {job.name}")
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":  # Ctrl-C as the command sees it
            os.kill(os.getppid(), signal.SIGINT)
            return None
        case "slow":
            time.sleep(1)
        case "long":
            (job.folder / job.name).write_text(str(os.getpid()))
            try:
                time.sleep(100)
            except KeyboardInterrupt:  # as a training does
                (job.folder / f"{job.name}_saved").touch()
                return None
        case "settings":
            return torch.get_num_threads(), multiprocessing.get_start_method()
    write("a line")
    return f"did {job.name}"


@pytest.fixture
def jobs(tmp_path):
    recipe = find_recipe("sis_cnn.quick")
    return lambda *names: [Job(name=name, recipe=recipe, folder=tmp_path, split=None) for name in names]


def begun(folder):
    return {path.name for path in folder.iterdir()}


def test_all_are_done(jobs, tmp_path):
    said = []
    found = dict(side_by_side(work, jobs("a", "b", "c"), 2, said.append))
    assert found == {0: "did a", 1: "did b", 2: "did c"} == dict(one_by_one(work, jobs("a", "b", "c"), lambda _: None))
    assert sorted(said) == ["a: done", "b: done", "c: done"]


def test_each_has_its_share_of_threads_and_starts_loaders_as_ever(jobs):
    share = max(1, torch.get_num_threads() // 2)
    found = dict(side_by_side(work, jobs("settings_0", "settings_1"), 2, lambda _: None))
    assert set(found.values()) == {(share, multiprocessing.get_start_method())}


def test_after_a_failure_no_other_begins(jobs, tmp_path):
    said, found = [], []
    with pytest.raises(ValueError, match="cannot do fail_0"):
        found.extend(side_by_side(work, jobs("slow_1", "fail_0", "c", "d", "e"), 2, said.append))
    assert found == [(0, "did slow_1")]  # what had begun is kept
    assert begun(tmp_path) == {"slow_1", "fail_0"}
    assert said[0] == "fail_0: failed; no other begins: cannot do fail_0"


def test_a_failure_of_any_kind_is_named(jobs):
    said = []
    with pytest.raises(RuntimeError, match="cannot do fail_memory"):
        list(side_by_side(work, jobs("fail_memory", "slow_1", "c"), 2, said.append))
    assert said == ["fail_memory: failed; no other begins: cannot do fail_memory", "slow_1: done"]


def test_a_killed_process_is_named(jobs, tmp_path):
    with pytest.raises(ValueError, match="ended from outside, perhaps for want of memory: try fewer --jobs"):
        list(side_by_side(work, jobs("killed_0", "slow_1", "c"), 2, lambda _: None))
    assert begun(tmp_path) <= {"killed_0", "slow_1"}


def test_an_interruption_ends_all(jobs, tmp_path):
    for _, done in side_by_side(work, jobs("slow_1", "stop_0", "c", "d"), 2, lambda _: None):
        if done is None:
            break
    assert begun(tmp_path) <= {"slow_1", "stop_0"}


def test_a_signal_to_the_command_reaches_all(jobs, tmp_path):
    command, processes = started(jobs, tmp_path)
    os.kill(command.pid, signal.SIGINT)
    command.join(30)
    assert {path.name for path in tmp_path.glob("*_saved")} == {"long_0_saved", "long_1_saved"}
    assert not any(map(is_alive, processes))


def run_both(jobs):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what begins in a shell's background ignores it
    list(side_by_side(work, jobs, 2, lambda _: None))


def test_a_killed_command_leaves_no_trainings_behind(jobs, tmp_path):
    command, processes = started(jobs, tmp_path)
    command.kill()
    command.join()
    wait_until(lambda: not any(map(is_alive, processes)))


def started(jobs, folder):
    """A command with two long trainings, and their processes."""
    command = multiprocessing.get_context("spawn").Process(target=run_both, args=(jobs("long_0", "long_1"),))
    command.start()
    files = [folder / "long_0", folder / "long_1"]
    wait_until(lambda: all(file.is_file() and file.read_text() for file in files))
    return command, [int(file.read_text()) for file in files]


def wait_until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
