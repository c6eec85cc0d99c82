"""The data sets by name: one file each, and a line in this table."""

from collections.abc import Callable

from smalti.data.contract import Dataset
from smalti.data.sets.camvid import Camvid
from smalti.data.sets.cityscapes import Cityscapes
from smalti.data.sets.coco import Coco
from smalti.data.sets.folder import Folder
from smalti.data.sets.kitti import Kitti
from smalti.data.sets.sbd import Sbd
from smalti.data.sets.scenes import Scenes
from smalti.data.sets.sift_flow import SiftFlow
from smalti.data.sets.stanford_background import StanfordBackground
from smalti.data.sets.voc import Voc

DATASETS: dict[str, Callable[..., Dataset]] = {
    "camvid": Camvid,
    "cityscapes": Cityscapes,
    "coco": Coco,
    "folder": Folder,
    "kitti": Kitti,
    "sbd": Sbd,
    "scenes": Scenes,
    "sift_flow": SiftFlow,
    "stanford_background": StanfordBackground,
    "voc": Voc,
}
