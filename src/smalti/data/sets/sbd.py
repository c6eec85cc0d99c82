"""The Semantic Boundaries Dataset: masks for 11,355 pictures of PASCAL VOC 2011, in MATLAB files.

Hariharan, Arbelaez, Bourdev, Maji, Malik, "Semantic Contours from Inverse Detectors", ICCV 2011.
"""

from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed, read_list
from smalti.data.contract import check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import VOC

SPLITS = ("train", "val")
SBD_LAYOUT = NativeLayout(
    set="sbd",
    folders=("benchmark_RELEASE/dataset", "dataset", "SBD", "sbd"),
    markers=("img", "cls", "train.txt", "val.txt"),
    how_to_get="It is the folder dataset of the SBD release (benchmark.tgz, Berkeley), with img, cls and inst inside.",
)


class Sbd(AnnotatedPictures):
    """Semantic Boundaries, 21 classes of VOC: 8,498 train, 2,857 val (its own split); no pixels are ignored."""

    name = "sbd"
    labels = VOC

    def __init__(self, root: Path | None = None, split: str = "train") -> None:
        """Reads the split's list.

        Raises:
            DataError: If the set, the split or listed files are missing; names them.
        """
        self.split = check_split(split, SPLITS, self.name)
        self.root = find_root(root, SBD_LAYOUT)
        self.items = sbd_pictures(self.root, split)


def sbd_pictures(root: Path, split: str) -> list[AnnotatedPicture]:
    """The pictures of a split with their .mat files.

    Raises:
        DataError: If the list or listed files are missing; names them.
    """
    listing = root / f"{split}.txt"
    objects = root / "inst"
    items = [
        AnnotatedPicture(
            name=name,
            picture=root / "img" / f"{name}.jpg",
            mask=root / "cls" / f"{name}.mat",
            instances=objects / f"{name}.mat" if objects.is_dir() else None,
        )
        for name in read_list(listing)
    ]
    check_listed(items, listing, SBD_LAYOUT.how_to_get)
    return items
