"""The same image in two splits: what is measured on it then says nothing about new images."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

from smalti.data.contract import Dataset, first_few
from smalti.data.fingerprints import fingerprints


def shared_images(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """A line for each pair of splits that have images of the same content, by the fingerprints of their files."""
    if len(splits) < 2:
        return
    names: dict[str, dict[str, str]] = {}
    for split, dataset in splits.items():
        names[split] = {found.image: name for name, found in fingerprints(dataset).items()}
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for one, another in combinations(splits, 2):
        for image in sorted(names[one].keys() & names[another].keys(), key=names[one].__getitem__):
            pairs[one, another].append(f"{names[one][image]} = {names[another][image]}")
    for (one, another), equal in pairs.items():
        yield f"{len(equal)} images are in {one} and in {another}: {first_few(equal)}"
