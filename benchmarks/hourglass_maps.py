"""Edges, distances and grouping of the hourglass on one core: `python benchmarks/hourglass_maps.py`.

Milliseconds of CPU time, medians, in turns in one process. The peer makes the same maps with
`scipy.ndimage.distance_transform_edt` on each object's bounding box and edges by comparing arrays.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt, find_objects

from smalti.geometry.distances import instance_distances
from smalti.geometry.edges import label_edges
from smalti.parts.grouping import Grouping, group_objects


def street(height: int, width: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Classes and ids: ellipses and boxes of a street's sizes, many of them overlapping."""
    rng = np.random.default_rng(0)
    classes, ids = np.zeros((height, width), np.uint8), np.zeros((height, width), np.int32)
    for number in range(1, objects + 1):
        half = np.exp(rng.uniform(np.log(height / 60), np.log(height / 5), 2))
        centre = rng.uniform(0.2, 0.9) * height, rng.uniform(0, 1) * width
        rows, columns = np.ogrid[:height, :width]
        inside = ((rows - centre[0]) / half[0]) ** 2 + ((columns - centre[1]) / half[1]) ** 2 < 1
        classes[inside], ids[inside] = 1 + number % 2, number
    return classes, ids


def by_scipy(classes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances = np.zeros(ids.shape, np.float32)
    for number, box in enumerate(find_objects(ids), start=1):
        if box is None:
            continue
        around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        mask = ids[around] == number
        found = distance_transform_edt(mask)
        distances[around][mask] = (found / found.max())[mask]
    both = classes.astype(np.int64) * (1 << 32) + ids
    padded = np.pad(both, 1, mode="edge")
    edges = np.zeros(ids.shape, bool)
    for rows, columns in ((0, 1), (2, 1), (1, 0), (1, 2)):
        edges |= padded[rows : rows + ids.shape[0], columns : columns + ids.shape[1]] != both
    return distances, edges


def milliseconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return 1000 * (time.process_time() - begin)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--objects", type=int, default=40)
    arguments.add_argument("--rounds", type=int, default=9)
    options = arguments.parse_args()
    cv2.setNumThreads(1)
    print("| size | targets, ms | SciPy, ms | faster | grouping, ms | with join_below, ms | objects grouped |")
    print("|---|---|---|---|---|---|---|")
    for height, width in ((512, 1024), (1024, 2048)):
        classes, ids = street(height, width, options.objects)
        distances = instance_distances(ids)
        edges = (label_edges(classes, ids) == 1).astype(np.float32)
        theirs, their_edges = by_scipy(classes, ids)
        assert np.abs(theirs - distances).max() < 1e-6
        assert np.array_equal(their_edges, edges > 0)
        work = {
            "ours": lambda c=classes, i=ids: (instance_distances(i), label_edges(c, i)),
            "scipy": lambda c=classes, i=ids: by_scipy(c, i),
            "grouping": lambda c=classes, d=distances, e=edges: group_objects(c, {1: "a", 2: "b"}, d, edges=e),
            "joined": lambda c=classes, d=distances, e=edges: group_objects(
                c, {1: "a", 2: "b"}, d, edges=e, rules=Grouping(join_below=0.8)
            ),
        }
        taken: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(options.rounds):
            for name, one in work.items():
                taken[name].append(milliseconds(one))
        ours, peer, grouping, joined = (statistics.median(taken[name]) for name in work)
        found = len(group_objects(classes, {1: "a", 2: "b"}, distances, edges=edges).labels)
        times = f"{ours:.1f} | {peer:.1f} | {peer / ours:.1f} | {grouping:.0f} | {joined:.0f}"
        print(f"| {height}x{width} | {times} | {found} |")


if __name__ == "__main__":
    main()
