"""Cityscapes, 1024 x 2048, 19 classes, with objects, in the layout of leftImg8bit and gtFine.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import CITYSCAPES

WHOLE = {"train": 2975, "val": 500, "test": 1525}
PICTURE = "_leftImg8bit.png"
LAYOUT = NativeLayout(
    set="cityscapes",
    folders=("cityscapes", "Cityscapes"),
    markers=("leftImg8bit", "gtFine"),
    how_to_get="It is leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of the Cityscapes site (registration "
    "needed), unpacked into one folder.",
)


class Cityscapes(AnnotatedPictures):
    """Cityscapes fine, 19 classes and 8 kinds of objects: 2,975 train, 500 val, 1,525 test (whose truth is secret).

    The ego vehicle, what lies outside the rectified picture and the other unevaluated ids are ignored. Groups of things
    that were not told apart have a class, but are no object.
    """

    name = "cityscapes"
    labels = CITYSCAPES

    def __init__(self, root: Path | None = None, split: str = "train") -> None:
        """Lists the pictures of all cities of a split.

        Raises:
            DataError: If the set, the split or label files are missing; names them.
        """
        self.split = check_split(split, tuple(WHOLE), self.name)
        self.root = find_root(root, LAYOUT)
        pictures = sorted((self.root / "leftImg8bit" / split).glob(f"*/*{PICTURE}"))
        if not pictures:
            raise DataError(f"{self.root / 'leftImg8bit' / split}: no pictures CITY/*{PICTURE}. {LAYOUT.how_to_get}")
        whole = WHOLE[split]
        self.edition = "" if len(pictures) == whole else f"incomplete: {len(pictures)} of {whole} pictures"
        self.items = [self._item(path) for path in pictures]
        check_listed(self.items, self.root / "leftImg8bit" / split, LAYOUT.how_to_get)

    def _item(self, picture: Path) -> AnnotatedPicture:
        name = picture.name.removesuffix(PICTURE)
        truth = self.root / "gtFine" / self.split / picture.parent.name
        public = self.split != "test"
        return AnnotatedPicture(
            name=name,
            picture=picture,
            mask=truth / f"{name}_gtFine_labelIds.png" if public else None,
            instances=truth / f"{name}_gtFine_instanceIds.png" if public else None,
            numbering="cityscapes",
        )
