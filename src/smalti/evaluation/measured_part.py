"""Which part of people's own folder is measured where no split is named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smalti.data.dataset import list_dataset, parse_data_argument
from smalti.data.fingerprints import ImageRecord
from smalti.data.sets.folder import SPLITS, Folder
from smalti.recipe import DataRecipe


@dataclass(frozen=True, kw_only=True)
class MeasuredPart:
    """A split, and in words what part of the folder it is and why; None where the split was named."""

    split: str
    reason: str | None = None

    def to_protocol(self) -> dict[str, Any]:
        """The entry of the protocol."""
        return {} if self.reason is None else {"measured_part": self.reason}


def measured_part(run: Path, recipe: DataRecipe, data: str | Path | None, split: str | None) -> MeasuredPart:
    """The split of that name; else the recipe's validation split, or all of a folder that the run has never seen.

    `run` is the folder in which the network's file lies: the images of its training are recorded there.
    """
    name, root = parse_data_argument(data, recipe.set)
    if split is not None or name != Folder.name:
        return MeasuredPart(split=split or recipe.validation)
    options = recipe.options if name == recipe.set else {}
    split = recipe.validation if recipe.validation in (*SPLITS, "all") else "val"
    everything = list_dataset(name, root=root, split="all", options=options)
    if split == "all" or not isinstance(everything, Folder) or everything.has_split_folders():
        return MeasuredPart(split=split)
    part = list_dataset(name, root=root, split=split, options=options)
    rest = f'measured is the split "{split}", {len(part)} of {len(everything)} images; --split all measures all of them'
    record = ImageRecord.read(run)
    if record is None or not record.is_complete:
        return MeasuredPart(split=split, reason="it is not recorded beside the network which images it was trained on: "
                            f"{rest}")  # fmt: skip
    trained, validated = record.used_images("training"), record.used_images("validation")
    # The record of a public data set is not of whole files; the same images may lie in this folder.
    found = everything.fingerprints(whole_files=recipe.set == Folder.name)
    seen = trained | validated
    known = sum(fingerprint.image in seen for fingerprint in found)
    if not known:
        reason = f"all {len(everything)} images: none of them was in this run's training or validation"
        return MeasuredPart(split="all", reason=reason)
    reason = f"{known} of {len(everything)} images were in this run's training or validation: {rest}"
    measured = {part.sample_name(index) for index in range(len(part))}
    overlap = sum(
        fingerprint.image in trained
        for index, fingerprint in enumerate(found)
        if everything.sample_name(index) in measured
    )
    return MeasuredPart(split=split, reason=f"{reason}. Of the measured ones {overlap} were trained on")
