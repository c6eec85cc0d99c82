"""The same image in two splits: what is measured on it then says nothing about new images."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from smalti.data.annotated import AnnotatedPictures
from smalti.data.contract import Dataset, first_few


def shared_images(splits: Mapping[str, Dataset]) -> Iterator[str]:
    """A line for each pair of splits that share image files, equal byte for byte; reads files of equal size only."""
    files = [(split, file) for split, dataset in splits.items() for file in _image_files(dataset)]
    pairs: dict[tuple[str, str], list[str]] = defaultdict(list)
    for same in _equal_files(files):
        first = {split: file for split, file in reversed(same)}
        names = [split for split in splits if split in first]
        for k, one in enumerate(names):
            for another in names[k + 1 :]:
                pairs[one, another].append(f"{_short(first[one])} = {_short(first[another])}")
    for (one, another), equal in pairs.items():
        yield f"{len(equal)} images are in {one} and in {another}: {first_few(equal)}"


def _image_files(dataset: Dataset) -> list[Path]:
    if not isinstance(dataset, AnnotatedPictures):
        return []
    return [item.files()[0] for item in dataset.items]


def _equal_files(files: list[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    """Groups of files with equal content that lie in more than one split."""
    by_size: dict[int, list[tuple[str, Path]]] = defaultdict(list)
    for split, file in files:
        by_size[file.stat().st_size].append((split, file))
    for alike in by_size.values():
        if len({split for split, _ in alike}) > 1:
            by_content: dict[bytes, list[tuple[str, Path]]] = defaultdict(list)
            for split, file in alike:
                by_content[_digest(file)].append((split, file))
            yield from (group for group in by_content.values() if len({split for split, _ in group}) > 1)


def _digest(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").digest()


def _short(file: Path) -> str:
    return "/".join(file.parts[-2:])
