"""People's own pictures and masks in a folder."""

import hashlib
import unicodedata
from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures
from smalti.data.cache import content_hash, remembered
from smalti.data.contract import DataError, check_split, first_few
from smalti.data.folder_boxes import box_files, boxes_by_key, table_of
from smalti.data.masks import find_labels
from smalti.data.pictures import PICTURE_SUFFIXES, find_pictures
from smalti.labels import LabelSet

SPLITS = ("train", "val", "test")
LIKE_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
SHAPE = "a folder with images/ and masks/ (files of the same stem) or boxes/, and labels.json if classes have names"


class Folder(AnnotatedPictures):
    """Your own folder: images/[train|val|test/] and masks/ (index or colour), or boxes/; labels.json, instances/.

    * Picture and mask are paired by their path below images/ and masks/ without the suffix.
    * Splits are the folders train, val and test below images/ where images/train exists; else `test` and `validation`
      are shares of the pictures, drawn by a hash of their names and `seed`, the same on every machine. The split "all"
      is everything.
    * Classes come from labels.json, else they are the values or colours found in all masks (255 = ignored).
    * Pictures of any common kind become 8-bit RGB; those deeper than 8 bits by one range of values, see `open_dataset`.
    * `instances/` may hold instance ids (0 = none), best as 16-bit PNG.
    * `boxes/` may hold COCO files of objects, whose file names are paths below images/ and whose categories are classes
      of things. A picture that none lists has no boxes that are known. Without masks/ its classes are the table.
    """

    name = "folder"
    has_any_depth = True

    def __init__(
        self,
        root: Path | None = None,
        split: str = "train",
        *,
        validation: float = 0.15,
        test: float = 0.15,
        seed: int = 0,
        require_masks: bool = True,
    ) -> None:
        """`require_masks=False` admits pictures without a mask, whose truth is None; so does a folder without masks/.

        It must have boxes/ then.

        Raises:
            DataError: If folders are missing or empty, or pictures and masks do not pair up.
        """
        self.root = _checked_root(root)
        if not (validation >= 0 and test >= 0 and validation + test < 1):
            raise DataError(f"the shares validation={validation} and test={test} must be 0 or more, below 1 together")
        pictures = _by_stem(self.root / "images")
        files = box_files(self.root / "boxes")
        require_masks = require_masks and (not files or (self.root / "masks").is_dir())
        masks = _by_stem(self.root / "masks") if require_masks or (self.root / "masks").is_dir() else {}
        chosen, self.split = self._choose(sorted(pictures), split, (validation, test), seed), split
        wanted = set(chosen)
        folders = None if split == "all" or not self._has_split_folders() else split
        stray = [k for k in masks if k not in pictures and (folders is None or k.startswith(f"{folders}/"))]
        bare = [k for k in pictures if k not in masks and (folders is None or k in wanted)] if require_masks else []
        _check_pairs(self.root, bare, stray)
        self.labels = _labels(self.root, list(masks.values()), files)
        boxes = boxes_by_key(files, pictures.keys(), self.labels)
        has_objects = (self.root / "instances").is_dir() and bool(find_pictures(self.root / "instances"))
        instances = _by_stem(self.root / "instances") if has_objects else {}
        stray = [k for k in instances if k not in pictures and (folders is None or k.startswith(f"{folders}/"))]
        if stray:
            raise DataError(f"{self.root}: {len(stray)} files in instances/ without a picture: {first_few(stray)}. The "
                            "picture images/a/b.jpg has its objects in instances/a/b.png")  # fmt: skip
        prefix = "" if folders is None else f"{folders}/"
        self.items: list[AnnotatedPicture] = [
            AnnotatedPicture(
                name=key.removeprefix(prefix).replace("/", "__"),
                picture=pictures[key],
                mask=masks.get(key),
                instances=instances.get(key),
                listed=boxes.get(key),
            )
            for key in chosen
        ]
        if len({item.name for item in self.items}) < len(self.items):
            raise DataError(f"{self.root}: a/b.png and a__b.png would have the same name in results: rename one")

    def content_key(self, index: int) -> str | None:
        """See `Dataset`; what is listed for the picture is part of it."""
        key, listed = super().content_key(index), self.items[index].listed
        return key if key is None or listed is None else content_hash([], key.encode(), listed.picture.annotations)

    def _has_split_folders(self) -> bool:
        there = {path.name for path in (self.root / "images").iterdir() if path.is_dir()}
        alike = sorted(name for name in there - set(SPLITS) if name.lower() in LIKE_SPLITS)
        if alike:
            raise DataError(f"{self.root / 'images'}: is the folder {alike[0]} a split? Splits are the folders "
                            f"{', '.join(SPLITS)}, here and in masks/: rename it")  # fmt: skip
        return SPLITS[0] in there

    def _choose(self, keys: list[str], split: str, shares: tuple[float, float], seed: int) -> list[str]:
        check_split(split, (*SPLITS, "all"), str(self.root))
        if split == "all":
            chosen = keys
        elif self._has_split_folders():
            chosen = [key for key in keys if key.startswith(f"{split}/")]
        else:
            chosen = _share(keys, split, shares, seed)
        if not chosen:
            raise DataError(f'{self.root}: no pictures in the split "{split}" (of {len(keys)} pictures in all)')
        return chosen


def _checked_root(root: Path | None) -> Path:
    if root is None:
        raise DataError(f"say where your pictures are, --data folder=PATH: {SHAPE}")
    if not (root / "images").is_dir():
        raise DataError(f"{root}: {'has no folder images/' if root.is_dir() else 'no such folder'}; expected {SHAPE}")
    return root


def _by_stem(folder: Path) -> dict[str, Path]:
    """Picture files by their path below the folder, without suffix; hidden files and other kinds are passed over."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected {SHAPE}")
    found: dict[str, Path] = {}
    for path in find_pictures(folder):
        # macOS writes é in two characters, others in one.
        key = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if key in found:
            raise DataError(f"{folder}: {found[key].name} and {path.name} have the same stem: rename or remove one")
        found[key] = path
    if not found:
        raise DataError(f"{folder}: no pictures here ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return found


def _check_pairs(root: Path, bare: list[str], stray: list[str]) -> None:
    problems = []
    if bare:
        problems.append(f"{len(bare)} pictures without a mask: {first_few(bare)}")
    if stray:
        problems.append(f"{len(stray)} masks without a picture: {first_few(stray)}")
    if problems:
        raise DataError(f"{root}: {'; '.join(problems)}. A picture images/a/b.jpg belongs to the mask masks/a/b.png")


def _share(keys: list[str], split: str, shares: tuple[float, float], seed: int) -> list[str]:
    """The split's share of the names, in an order that depends on nothing but the names and the seed."""
    shuffled = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}/{key}".encode()).digest())
    validation, test = (max(1, round(share * len(keys))) if share > 0 and len(keys) > 2 else 0 for share in shares)
    borders = {
        "test": (0, test),
        "val": (test, test + validation),
        "train": (test + validation, len(keys)),
    }
    start, end = borders[split]
    return sorted(shuffled[start:end])


def _labels(root: Path, masks: list[Path], boxes: list[Path]) -> LabelSet:
    table = root / "labels.json"
    if table.is_file():
        try:
            return LabelSet.read(table)
        except ValueError as error:
            raise DataError(str(error)) from error
    if boxes and not masks:
        return table_of(boxes)
    if not masks:
        return LabelSet(names=("unknown",), title="no masks, no labels.json")
    return LabelSet.from_json(remembered("tables", content_hash(masks), lambda: find_labels(masks).to_json()))
