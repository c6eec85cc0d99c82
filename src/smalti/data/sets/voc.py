"""PASCAL VOC, segmentation and detection of 2007 and 2012, in the native layout of the VOCdevkit.

Everingham, Van Gool, Williams, Winn, Zisserman, "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

from dataclasses import replace
from pathlib import Path

from smalti.data.annotated import AnnotatedPicture, AnnotatedPictures, check_listed, read_list
from smalti.data.contract import DataError, check_split
from smalti.data.roots import NativeLayout, find_root
from smalti.data.sets.sbd import SBD_LAYOUT, sbd_pictures
from smalti.data.voc_xml import voc_overhang_notes
from smalti.labels import IGNORED, VOC

LISTS = "ImageSets/Segmentation"
MAIN = {f"main_{split}": split for split in ("train", "val", "trainval", "test")}
"""The splits of detection, and their lists in ImageSets/Main."""
SPLITS = ("train", "val", "trainval", "test", "train_aug", *MAIN, "trainval_0712")
ANNOTATIONS = "Annotations"
LAYOUT = NativeLayout(
    set="voc",
    folders=("VOCdevkit",),
    markers=(f"VOC20[0-9][0-9]/{LISTS}",),
    how_to_get="It is the VOCdevkit of the PASCAL VOC challenge, with VOC2012/ or VOC2007/ inside.",
)


class Voc(AnnotatedPictures):
    """PASCAL VOC of 2012 or 2007, 21 classes: masks, whose rings around objects (255) are ignored, and boxes.

    * `train`, `val`, `trainval` and `test` are the lists in ImageSets/Segmentation (the masks of test are public for
      2007 only).
    * `train_aug` is the train split of 2012 and all pictures of SBD (Hariharan et al. 2011) that are not in its val
      split: 10,582 pictures, with VOC's own masks where both have one.
    * `main_train`, … are the lists of detection, in ImageSets/Main; their pictures have a mask where there is one.
    * `trainval_0712` is `main_trainval` of 2007, its boxes alone, and `train_aug` of 2012: IvaNet's and BlitzNet's.

    Boxes are those of Annotations/, where that folder is.
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
        if split == "trainval_0712":
            self.edition = "2007 and 2012"
            older = _of_year(self.root.parent, 2007)
            # Boxes only, as BlitzNet: some of these pictures are also of 2012, with their masks in its val split.
            boxes_only = [replace(item, mask=None, instances=None) for item in _listed(older, "main_trainval")]
            self.items = boxes_only + self._augmented(sbd)
        elif split == "train_aug":
            self.items = self._augmented(sbd)
        else:
            self.items = _listed(self.root, split)
        self.notes = voc_overhang_notes([(item.boxes, item.picture) for item in self.items if item.boxes is not None])

    def _augmented(self, sbd: str | None) -> list[AnnotatedPicture]:
        if self.root.name != "VOC2012":
            raise DataError(f"{self.root}: {self.split} joins SBD with VOC2012, this is {self.root.name}: "
                            "take the split train")  # fmt: skip
        own = _listed(self.root, "train")
        taken = {item.name for item in own} | set(read_list(self.root / LISTS / "val.txt"))
        more = {item.name: item for split in ("train", "val") for item in sbd_pictures(self._sbd(sbd), split)}
        boxes = {path.stem: path for path in (self.root / ANNOTATIONS).glob("*.xml")}  # SBD has none of its own
        return own + [replace(item, boxes=boxes.get(name)) for name, item in sorted(more.items()) if name not in taken]

    def _sbd(self, sbd: str | None) -> Path:
        near = self.root.parent.parent if sbd is None else Path(sbd).expanduser()
        for place in (near, None) if sbd is None else (near,):
            try:
                return find_root(place, SBD_LAYOUT)
            except DataError as error:
                missing = error
        raise DataError(f"the split {self.split} joins VOC 2012 with SBD. {missing}, or as an option of voc: "
                        "--set data.options.sbd=FOLDER; or do without it: --set data.train=train")  # fmt: skip


def _listed(folder: Path, split: str) -> list[AnnotatedPicture]:
    """The pictures of a split of one year."""
    detection = split in MAIN
    listing = folder / "ImageSets/Main" / f"{MAIN[split]}.txt" if detection else folder / LISTS / f"{split}.txt"
    items = [_item(folder, name.split()[0], mask_may_lack=detection) for name in read_list(listing)]
    check_listed(items, listing, LAYOUT.how_to_get)
    return items


def _item(folder: Path, name: str, *, mask_may_lack: bool) -> AnnotatedPicture:
    mask, objects = (folder / kind / f"{name}.png" for kind in ("SegmentationClass", "SegmentationObject"))
    has_mask = not mask_may_lack or mask.is_file()
    return AnnotatedPicture(
        name=name,
        picture=folder / "JPEGImages" / f"{name}.jpg",
        mask=mask if has_mask else None,
        instances=objects if has_mask and objects.parent.is_dir() else None,
        boxes=folder / ANNOTATIONS / f"{name}.xml" if (folder / ANNOTATIONS).is_dir() else None,
        no_instance=(IGNORED,),
    )


def _of_year(devkit: Path, year: int | None) -> Path:
    there = sorted(folder.parents[1].name for folder in devkit.glob(LAYOUT.markers[0]))
    chosen = there[-1] if year is None else f"VOC{year}"
    if chosen not in there:
        raise DataError(f"{devkit}: no {chosen} here, only {', '.join(there)}: set the option year, e.g. "
                        f"--set data.options.year={there[-1].removeprefix('VOC')}")  # fmt: skip
    return devkit / chosen
