"""The data sets by name: one file each, and a line in this table."""

from collections.abc import Callable

from smalti.data.contract import Dataset
from smalti.data.sets.camvid import Camvid
from smalti.data.sets.folder import Folder
from smalti.data.sets.scenes import Scenes

DATASETS: dict[str, Callable[..., Dataset]] = {"camvid": Camvid, "folder": Folder, "scenes": Scenes}
