"""People's own pictures and masks in a folder."""

import contextlib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures
from smalti.data.cache import content_hash, remembered
from smalti.data.contract import DataError, check_split, first_few
from smalti.data.folder_boxes import FolderBoxes, box_files, read_boxes, table_of
from smalti.data.found_labels import find_labels
from smalti.data.masks import Palettes, compare_palettes
from smalti.data.pictures import PICTURE_SUFFIXES, find_pictures
from smalti.labels import LabelSet

SPLITS = ("train", "val", "test")
LIKE_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
SHAPE = "a folder with images/ and masks/ (files of the same stem) or boxes/, and labels.json if classes have names"


class EmptySplitError(DataError):
    """A split of a folder that has no images."""


class Folder(AnnotatedPictures):
    """Your own folder: images/[train|val|test/] and masks/ (index or colour), or boxes/; labels.json, instances/.

    * Picture and mask are paired by their path below images/ and masks/ without the suffix.
    * Splits are the folders train, val and test below images/ where images/train exists; else a hash of an image's name
      and `seed` decides: `test` and `validation` are the shares of all names, and an image stays in its split whatever
      is added. Only if the hashes leave a split empty, as in a handful of images, does it take the image nearest to it,
      which may change splits when others are added. The split "all" is everything.
    * Classes come from labels.json, else they are the values or colours found in all masks (255 = ignored).
    * Pictures of any common kind become 8-bit RGB; those deeper than 8 bits by one range of values, see `open_dataset`.
    * `instances/` may hold instance ids (0 = none), best as 16-bit PNG.
    * `boxes/` may hold COCO files of objects, whose file names are paths below images/ and whose categories are classes
      of things. A picture that none lists has no boxes that are known. Without masks/ its classes are the table.
    * Polygons and run lengths in `boxes/` are masks: where a listed picture has no file in masks/, its classes and
      object numbers are painted from them in the file's order, the later over the earlier. The inside of a box without
      a polygon is ignored, and what no object covers is the class "background", or ignored if there is none. A file in
      masks/ or instances/ comes first. `notes` says which of these happened.
    """

    name = "folder"
    is_own_folder = True
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
        self._options: dict[str, Any] = {
            "validation": validation,
            "test": test,
            "seed": seed,
            "require_masks": require_masks,
        }
        if not (validation >= 0 and test >= 0 and validation + test < 1):
            raise DataError(f"the shares validation={validation} and test={test} must be 0 or more, below 1 together")
        files = _Files.of(self.root, require_masks)
        chosen, self.split = self._choose(sorted(files.images), split, (validation, test), seed), split
        folder = "" if split == "all" or not self.has_split_folders() else f"{split}/"
        bare = [key for key in files.images if key not in files.masks and key.startswith(folder)]
        bare = bare if files.masks_required else []
        _check_pairs(self.root, [] if files.boxes else bare, files.without_image(files.masks, folder))
        self.labels = _labels(self.root, list(files.masks.values()), files.boxes)
        boxes = read_boxes(files.boxes, files.images.keys(), self.labels)
        _check_pairs(self.root, [key for key in bare if not boxes.paints(key)], [])
        if stray := files.without_image(files.instances, folder):
            raise DataError(f"{self.root}: {len(stray)} files in instances/ without a picture: {first_few(stray)}. The "
                            "picture images/a/b.jpg has its objects in instances/a/b.png")  # fmt: skip
        palettes = _palettes(list(files.masks.values()))
        self.items: list[AnnotatedPicture] = [
            AnnotatedPicture(
                name=key.removeprefix(folder).replace("/", "__"),
                picture=files.images[key],
                mask=files.masks.get(key),
                palettes=palettes,
                instances=files.instances.get(key),
                listed=boxes.of_picture.get(key),
            )
            for key in chosen
        ]
        if len({item.name for item in self.items}) < len(self.items):
            raise DataError(f"{self.root}: a/b.png and a__b.png would have the same name in results: rename one")
        self.notes = _notes(self.labels, self.items, boxes)

    def other_splits(self, opened: Container[str]) -> Iterator[tuple[str, AnnotatedPictures]]:
        """See `AnnotatedPictures`: those of train, val and test that have images; none beside "all"."""
        for name in SPLITS:
            if name not in opened and self.split not in (name, "all"):
                with contextlib.suppress(DataError):  # no images in it
                    yield name, Folder(self.root, name, **self._options)

    def annotations(self, index: int) -> bytes:
        """See `AnnotatedPictures`."""
        listed = self.items[index].listed
        return b"" if listed is None else listed.picture.annotations

    def has_split_folders(self) -> bool:
        """Whether the splits are folders below images/.

        Raises:
            DataError: If a folder there is called almost like a split.
        """
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
        elif self.has_split_folders():
            chosen = [key for key in keys if key.startswith(f"{split}/")]
        else:
            chosen = _share(keys, split, shares, seed)
        if not chosen:
            raise EmptySplitError(f'{self.root}: no pictures in the split "{split}" (of {len(keys)} pictures in all)')
        return chosen


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Files by their path below their folder without suffix; of `boxes/` all."""

    images: Mapping[str, Path]
    masks: Mapping[str, Path]
    instances: Mapping[str, Path]
    boxes: list[Path]
    masks_required: bool

    @classmethod
    def of(cls, root: Path, require_masks: bool) -> "_Files":
        """What is in a folder; masks are required unless it has boxes/ and no masks/."""
        boxes, has_masks = box_files(root / "boxes"), (root / "masks").is_dir()
        require_masks = require_masks and (not boxes or has_masks)
        has_objects = (root / "instances").is_dir() and bool(find_pictures(root / "instances"))
        return cls(
            images=_by_stem(root / "images"),
            masks=_by_stem(root / "masks") if require_masks or has_masks else {},
            instances=_by_stem(root / "instances") if has_objects else {},
            boxes=boxes,
            masks_required=require_masks,
        )

    def without_image(self, files: Mapping[str, Path], folder: str) -> list[str]:
        """Those below a split's folder to which no image belongs."""
        return [key for key in files if key not in self.images and key.startswith(folder)]


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


def _notes(labels: LabelSet, items: list[AnnotatedPicture], boxes: FolderBoxes) -> tuple[str, ...]:
    """What was decided about these pictures for the user."""
    notes = list(boxes.notes)
    listed = [(item, item.listed.picture) for item in items if item.listed is not None and item.listed.paints]
    painted = [picture for item, picture in listed if item.mask is None]
    if painted:
        alone = sum(picture.boxed for picture in painted)
        rest = "background" if "background" in labels.names else 'ignored, as no class is called "background"'
        notes.append(
            f"the classes and objects of {len(painted)} images without a file in masks/ are painted from the "
            f"polygons in boxes/, in the file's order, the later over the earlier; pixels outside are {rest}"
            + (f"; {alone} objects have a box alone, whose inside is ignored" if alone else "")
        )  # fmt: skip
    beside = [item for item, picture in listed if item.mask is not None and picture.masked]
    if beside:
        notes.append(
            f"{len(beside)} images have polygons in boxes/ and a file in masks/: masks/ decides the classes, "
            "and an object is numbered where the mask has its class"
        )  # fmt: skip
    numbered = [item for item, picture in listed if item.instances is not None and picture.masked]
    if numbered:
        notes.append(f"{len(numbered)} images have polygons in boxes/ and a file in instances/, which decides "
                     "the object numbers")  # fmt: skip
    if any(item.instances is not None for item in items) and not labels.things:
        notes.append("instances/ is not used, as no class is one of things: mark classes of countable objects "
                     'with "thing": true in labels.json')  # fmt: skip
    return tuple(notes)


def _share(keys: list[str], split: str, shares: tuple[float, float], seed: int) -> list[str]:
    """The split's images: the hash of an image's name and the seed decides, whatever else is in the folder.

    Only if that leaves a split empty does it take the image nearest to it from a split with several, so that a handful
    of images can be trained and measured, too. Such an image may change splits when others are added.
    """
    places = {key: _place(key, seed) for key in keys}
    validation, test = shares
    chosen = {key: "test" if place < test else "val" if place < test + validation else "train"
              for key, place in places.items()}  # fmt: skip
    counts = Counter(chosen.values())
    for name, share, start in (("test", test, 0.0), ("val", validation, test), ("train", 1.0, test + validation)):
        if share > 0 and not counts[name] and len(keys) > 2:
            others = [key for key in keys if counts[chosen[key]] > 1]
            nearest = min(others, key=lambda key: abs(places[key] - start), default=None)
            if nearest is not None:
                counts[chosen[nearest]] -= 1
                counts[name] += 1
                chosen[nearest] = name
    return [key for key in keys if chosen[key] == split]


def _place(key: str, seed: int) -> float:
    """A number from 0 to below 1 that is the same on every machine."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{key}".encode("utf-8", "surrogateescape")).digest()[:7]) / 2**56


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


def _palettes(masks: list[Path]) -> Palettes:
    palettes: Palettes = remembered("palettes", content_hash(masks), lambda: compare_palettes(masks))
    return palettes
