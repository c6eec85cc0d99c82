import pytest

from smalti.predict.memory import available_memory, check_whole, choose_tiles
from smalti.predict.tiling import Tiles


def test_tiles_are_chosen_by_memory():
    free = 4 * 10**9  # three quarters of it count: 3e9
    assert choose_tiles((1000, 3000), 1000, free) is None
    assert choose_tiles((1001, 3000), 1000, free) == Tiles(size=1024, overlap=128)
    assert choose_tiles((4000, 4000), 4000, free) == Tiles(size=768, overlap=96)
    assert choose_tiles((400_000, 10), 1000, free) == Tiles(size=1024, overlap=128)
    with pytest.raises(
        ValueError, match=r"15 MiB of memory are too few for a tile of 256 x 256 pixels, which takes 62"
    ):
        choose_tiles((4000, 4000), 1000, 20 * 2**20)


def test_an_answer_that_does_not_fit_is_refused():
    check_whole((1000, 1000), 110, 200 * 10**6)
    with pytest.raises(ValueError, match=r"about 105 MiB of memory, and 72 can be had: make the picture smaller"):
        check_whole((1000, 1000), 110, 100 * 10**6)


def machine(root, free_kib, groups, own):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemFree: 1 kB\nMemAvailable: {free_kib} kB\n")
    (root / "proc/self/cgroup").write_text(own)
    for place, content in groups.items():
        folder = root / "sys/fs/cgroup" / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in content.items():
            (folder / name).write_text(f"{text}\n")
    return root


def limited(most, used, forgettable=0):
    return {"memory.max": most, "memory.current": used, "memory.stat": f"anon 1\ninactive_file {forgettable}"}


FIRST_VERSION = {"memory.limit_in_bytes": 500, "memory.usage_in_bytes": 100, "memory.stat": "cache 1\nrss 2"}


@pytest.mark.parametrize(("own", "groups", "expected"), [
    ("", {}, 8192 * 1024),
    ("0::/\n", {"": {"memory.max": "max"}}, 8192 * 1024),
    ("0::/\n", {"": limited(1000, 700, 50)}, 350),
    ("0::/a/b\n", {"a": limited(900, 700), "a/b": {"memory.max": "max"}}, 200),
    ("0::/../x\n", {"": limited(10, 70)}, 0),
    ("4:cpu:/\n3:memory:/c\n", {"memory": FIRST_VERSION}, 400),
])  # fmt: skip
def test_memory_that_is_left(tmp_path, own, groups, expected):
    assert available_memory(machine(tmp_path, 8192, groups, own)) == expected


def test_memory_of_this_machine():
    assert 2**20 < available_memory() < 2**50


def test_memory_where_no_system_says_it(tmp_path):
    assert 2**20 < available_memory(tmp_path) < 2**50
