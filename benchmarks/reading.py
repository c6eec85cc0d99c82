"""How fast samples come from the cache: `python benchmarks/reading.py stanford_background=PATH --split trainval`.

A first pass decodes each sample and keeps it; the passes after it read what was kept, with two loader workers, and
touch every pixel.
"""

import argparse
import tempfile
import time
from pathlib import Path

from torch.utils.data import DataLoader

from smalti.data.cache import CachedDataset
from smalti.data.dataset import Dataset, open_dataset, parse_data_argument


class Touched:
    """Reads a sample and every one of its pixels."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> int:
        sample = self.dataset.read(index)
        return int(sample.image.sum()) + int(sample.semantic.sum())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("data")
    arguments.add_argument("--split", default="train")
    arguments.add_argument("--passes", type=int, default=3)
    options = arguments.parse_args()
    name, root = parse_data_argument(options.data, "folder")
    with tempfile.TemporaryDirectory() as folder:
        data = CachedDataset(open_dataset(name, root=root, split=options.split, options={}), Path(folder))
        loader = DataLoader(Touched(data), batch_size=8, num_workers=2, collate_fn=list)
        for number in range(1 + options.passes):
            begin = time.perf_counter()
            for _ in loader:
                pass
            rate = len(data) / (time.perf_counter() - begin)
            print(f"pass {number} ({'files' if number == 0 else 'cache'}): {rate:.0f} samples/s", flush=True)


if __name__ == "__main__":
    main()
