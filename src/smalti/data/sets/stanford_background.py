"""Stanford Background: 715 outdoor pictures of 51 sizes, 8 classes, in the layout of iccv09Data.

Gould, Fulton, Koller, "Decomposing a Scene into Geometric and Semantically Consistent Regions", ICCV 2009.
"""

from importlib import resources
from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import STANFORD_BACKGROUND

SPLITS = ("train", "val", "trainval", "test", "all")
FOLDS = 5
VALIDATION = 57
"""Pictures of `val`, about a tenth of what a fold trains on."""
ORDER = "stanford_background_order.txt"
LAYOUT = NativeLayout(
    set="stanford_background",
    folders=("iccv09Data", "StanfordBackground/iccv09Data"),
    markers=("horizons.txt", "images", "labels"),
    how_to_get="It is iccv09Data.tar.gz of Stephen Gould's group, unpacked.",
)


class StanfordBackground(AnnotatedPictures):
    """Stanford Background, 8 classes, 51 picture sizes: five folds of 143 test and 572 other pictures; -1 is ignored.

    The set has no official folds. Ours are cut from one fixed order of the pictures that is kept beside this file: the
    pictures numbered 143 (fold - 1) to 143 fold are `test`, the others `trainval`, of which the first 57 are `val` and
    the rest `train`.
    """

    name = "stanford_background"
    labels = STANFORD_BACKGROUND

    def __init__(self, root: Path | None = None, split: str = "train", *, fold: int = 1) -> None:
        """`fold` is 1 to 5.

        Raises:
            DataError: If the set, the fold, the split or pictures of it are missing; names them.
        """
        self.split = check_split(split, SPLITS, self.name)
        if not 1 <= fold <= FOLDS:
            raise DataError(f"{self.name} has the folds 1 to {FOLDS}, got fold={fold}")
        self.root = find_root(root, LAYOUT)
        self.edition = "" if split == "all" else f"fold {fold}"
        self.items = [self._item(name) for name in _names(split, fold)]
        check_listed(self.items, self.root, LAYOUT.how_to_get)

    def _item(self, name: str) -> AnnotatedPicture:
        return AnnotatedPicture(
            name=name,
            picture=self.root / "images" / f"{name}.jpg",
            mask=self.root / "labels" / f"{name}.regions.txt",
        )


def _names(split: str, fold: int) -> list[str]:
    order = resources.files(__package__).joinpath(ORDER).read_text("utf-8").split()
    size = len(order) // FOLDS
    test = order[size * (fold - 1) : size * fold]
    rest = order[: size * (fold - 1)] + order[size * fold :]
    names = {"all": order, "test": test, "trainval": rest, "val": rest[:VALIDATION], "train": rest[VALIDATION:]}
    return names[split]
