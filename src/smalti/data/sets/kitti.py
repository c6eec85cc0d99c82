"""KITTI semantics and instances, about 375 x 1242, Cityscapes' classes, in the layout of data_semantics.

Abu Alhaija et al., "Augmented Reality Meets Computer Vision", IJCV 2018.
"""

from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import CITYSCAPES

SPLITS = ("train", "val", "trainval", "test")
WHOLE = 200
EVERY = 5
LAYOUT = NativeLayout(
    set="kitti",
    folders=("data_semantics", "kitti"),
    markers=("training/image_2", "training/semantic", "training/instance"),
    how_to_get="It is data_semantics.zip of the KITTI semantics benchmark, unpacked.",
)


class Kitti(AnnotatedPictures):
    """KITTI semantics, 19 classes and 8 kinds of objects: of the 200 training pictures every fifth is val (160 + 40).

    The set has no official validation pictures; ours are those whose number is a multiple of five. `test` has no truth.
    """

    name = "kitti"
    labels = CITYSCAPES

    def __init__(self, root: Path | None = None, split: str = "train") -> None:
        """Lists the pictures that are there.

        Raises:
            DataError: If the set, the split or label files are missing, or a picture has no number; names them.
        """
        self.split = check_split(split, SPLITS, self.name)
        self.root = find_root(root, LAYOUT)
        folder = self.root / ("testing" if split == "test" else "training")
        pictures = sorted((folder / "image_2").glob("*.png"))
        self.edition = "" if len(pictures) == WHOLE else f"incomplete: {len(pictures)} of {WHOLE} pictures"
        chosen = [path for path in pictures if split in ("test", "trainval") or _is_val(path) == (split == "val")]
        if not chosen:
            raise DataError(f"{folder / 'image_2'}: no pictures for the split {split}. {LAYOUT.how_to_get}")
        self.items = [self._item(path, folder) for path in chosen]
        check_listed(self.items, folder, LAYOUT.how_to_get)

    def _item(self, picture: Path, folder: Path) -> AnnotatedPicture:
        public = self.split != "test"
        return AnnotatedPicture(
            name=picture.stem,
            picture=picture,
            mask=folder / "semantic" / picture.name if public else None,
            instances=folder / "instance" / picture.name if public else None,
            numbering="kitti",
        )


def _is_val(picture: Path) -> bool:
    number = picture.stem.partition("_")[0]
    if not number.isdigit():
        raise DataError(f"{picture}: expected a name like 000123_10.png")
    return int(number) % EVERY == 0
