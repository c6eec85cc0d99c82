"""SIFT Flow: 2,688 outdoor pictures of 256 x 256, 33 classes, in the layout of its labelled release.

Liu, Yuen, Torralba, "Nonparametric Scene Parsing via Label Transfer", PAMI 2011; the release with `.mat` label maps is
that of Tighe and Lazebnik, "SuperParsing", ECCV 2010.
"""

from pathlib import Path, PureWindowsPath

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed, read_list
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.labels import SIFT_FLOW

WHOLE = 2688
SPLITS = ("train", "test", "all")
COLLECTION = "spatial_envelope_256x256_static_8outdoorcategories"
LISTS = ("TestSet1.txt", "TestSet.txt", "test.txt")
"""Names under which the list of the 200 test pictures is handed around."""
LAYOUT = NativeLayout(
    set="sift_flow",
    folders=("SiftFlowDataset", "SIFTFlow", "siftflow"),
    markers=(f"Images/{COLLECTION}", f"SemanticLabels/{COLLECTION}"),
    how_to_get="It is SiftFlowDataset.zip of Tighe and Lazebnik's SuperParsing, unpacked, with its list of test "
    "pictures inside.",
)


class SiftFlow(AnnotatedPictures):
    """SIFT Flow, 33 classes, 256 x 256: 2,488 train, 200 test; unlabelled pixels (0) are ignored."""

    name = "sift_flow"
    labels = SIFT_FLOW

    def __init__(self, root: Path | None = None, split: str = "train") -> None:
        """`test` are the pictures on the set's list, `train` all others.

        Raises:
            DataError: If the set, its list, the split or files of it are missing; names them.
        """
        self.split = check_split(split, SPLITS, self.name)
        self.root = find_root(root, LAYOUT)
        listing, test = self._test_names()
        pictures = sorted(path.stem for path in (self.root / "Images" / COLLECTION).glob("*.jpg"))
        unknown = test - set(pictures)
        if unknown:
            check_listed([self._item(name) for name in sorted(unknown)], listing, LAYOUT.how_to_get)
        self.edition = "" if len(pictures) == WHOLE else f"incomplete: {len(pictures)} of {WHOLE} pictures"
        chosen = {"test": test, "train": set(pictures) - test, "all": set(pictures)}[split]
        self.items = [self._item(name) for name in pictures if name in chosen]
        if not self.items:
            raise DataError(f"{self.root}: no pictures for the split {split}. {LAYOUT.how_to_get}")
        check_listed(self.items, self.root, LAYOUT.how_to_get)

    def _test_names(self) -> tuple[Path, set[str]]:
        for name in LISTS:
            if (listing := self.root / name).is_file():
                # The lists have paths with either slash, with or without the ending.
                return listing, {PureWindowsPath(line).name.removesuffix(".jpg") for line in read_list(listing)}
        raise DataError(f"{self.root}: no list of the test pictures ({' or '.join(LISTS)}). {LAYOUT.how_to_get}")

    def _item(self, name: str) -> AnnotatedPicture:
        return AnnotatedPicture(
            name=name,
            picture=self.root / "Images" / COLLECTION / f"{name}.jpg",
            mask=self.root / "SemanticLabels" / COLLECTION / f"{name}.mat",
        )
