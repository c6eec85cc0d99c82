"""PASCAL VOC, the segmentation task of 2007 and 2012, in the native layout of the VOCdevkit.

Everingham, Van Gool, Williams, Winn, Zisserman, "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed, read_list
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.data.sets.sbd import SBD_LAYOUT, sbd_pictures
from smalti.labels import IGNORED, VOC

SPLITS = ("train", "val", "trainval", "test", "train_aug")
LISTS = "ImageSets/Segmentation"
LAYOUT = NativeLayout(
    set="voc",
    folders=("VOCdevkit",),
    markers=(f"VOC20[0-9][0-9]/{LISTS}",),
    how_to_get="It is the VOCdevkit of the PASCAL VOC challenge, with VOC2012/ or VOC2007/ inside.",
)


class Voc(AnnotatedPictures):
    """PASCAL VOC segmentation of 2012 or 2007, 21 classes; the rings around objects (255) are ignored.

    The splits are the lists in ImageSets/Segmentation (the masks of test are public for 2007 only). `train_aug` is the
    train split of 2012 and all pictures of SBD (Hariharan et al. 2011) that are not in its val split: 10,582 pictures,
    with VOC's own masks where both have one.
    """

    name = "voc"
    labels = VOC

    def __init__(
        self, root: Path | None = None, split: str = "train", *, year: int | None = None, sbd: str | None = None
    ) -> None:
        """`year`: 2007 or 2012, None = the newest there. `sbd`: its folder, None = beside VOCdevkit or in SMALTI_DATA.

        Raises:
            DataError: If the set, the year, the split or listed files are missing; names them.
        """
        self.split = check_split(split, SPLITS, self.name)
        self.root = _of_year(find_root(root, LAYOUT), year)
        self.edition = self.root.name.removeprefix("VOC")
        if split == "train_aug":
            self.items = self._augmented(sbd)
        else:
            self.items = self._listed(split)

    def _listed(self, split: str) -> list[AnnotatedPicture]:
        listing = self.root / LISTS / f"{split}.txt"
        items = [self._item(name.split()[0]) for name in read_list(listing)]
        check_listed(items, listing, LAYOUT.how_to_get)
        annotations = self.root / "Annotations"
        if annotations.is_dir():  # not read for segmentation, but an incomplete copy is better known early
            check_listed([annotations / f"{item.name}.xml" for item in items], listing, LAYOUT.how_to_get)
        return items

    def _item(self, name: str) -> AnnotatedPicture:
        objects = self.root / "SegmentationObject"
        return AnnotatedPicture(
            name=name,
            picture=self.root / "JPEGImages" / f"{name}.jpg",
            mask=self.root / "SegmentationClass" / f"{name}.png",
            instances=objects / f"{name}.png" if objects.is_dir() else None,
            no_instance=(IGNORED,),
        )

    def _augmented(self, sbd: str | None) -> list[AnnotatedPicture]:
        if self.root.name != "VOC2012":
            raise DataError(f"{self.root}: train_aug joins SBD with VOC2012, this is {self.root.name}: "
                            "take the split train")  # fmt: skip
        own = self._listed("train")
        taken = {item.name for item in own} | set(read_list(self.root / LISTS / "val.txt"))
        more = {item.name: item for split in ("train", "val") for item in sbd_pictures(self._sbd(sbd), split)}
        return own + [item for name, item in sorted(more.items()) if name not in taken]

    def _sbd(self, sbd: str | None) -> Path:
        near = self.root.parent.parent if sbd is None else Path(sbd).expanduser()
        for place in (near, None) if sbd is None else (near,):
            try:
                return find_root(place, SBD_LAYOUT)
            except DataError as error:
                missing = error
        raise DataError(f"the split train_aug joins VOC 2012 with SBD. {missing}, or as an option of voc: "
                        "--set data.options.sbd=FOLDER; or do without it: --set data.train=train")  # fmt: skip


def _of_year(devkit: Path, year: int | None) -> Path:
    there = sorted(folder.parents[1].name for folder in devkit.glob(LAYOUT.markers[0]))
    chosen = there[-1] if year is None else f"VOC{year}"
    if chosen not in there:
        raise DataError(f"{devkit}: no {chosen} here, only {', '.join(there)}: set the option year, e.g. "
                        f"--set data.options.year={there[-1].removeprefix('VOC')}")  # fmt: skip
    return devkit / chosen
