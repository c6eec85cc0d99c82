"""Whether the labels of a data set can be meant as they are: asked by `smalti data`, before training and evaluation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from smalti.data.annotated import AnnotatedPictures
from smalti.data.contract import DataError, Dataset
from smalti.data.duplicates import shared_images
from smalti.data.label_survey import label_notes, survey_labels, unusable_masks, wrong_labels


@dataclass(frozen=True, kw_only=True)
class Doubts:
    """What a person should know of the labels, and what is wrong for certain; lines of text."""

    notes: tuple[str, ...]
    problems: tuple[str, ...]
    unusable: str | None = None
    """The first mask that cannot be used, and how many others."""

    def check(self) -> None:
        """Raises DataError if something is wrong."""
        problems = [*([] if self.unusable is None else [self.unusable]), *self.problems]
        if problems:
            raise DataError("; ".join(problems))


def find_doubts(
    splits: Mapping[str, Dataset], *, with_other_splits: bool = True, compare_published: bool = False
) -> Doubts:
    """Looks at the labels of some splits of one data set, the first of which is learned from.

    The other splits of people's own folder are looked at, too, unless that is not asked for: an image or a class may
    stand only there. Images that are in two splits are searched there, and in public data sets only with
    `compare_published`: their splits are known, and reading all their files takes time.
    """
    datasets = {**splits, **dict(_other_splits(splits) if with_other_splits else ())}
    first = next(iter(splits.values()))
    own = isinstance(first, AnnotatedPictures) and first.is_own_folder
    surveys = {split: found for split, dataset in datasets.items() if (found := survey_labels(dataset)) is not None}
    notes = [*shared_images(datasets)] if own or compare_published else []
    problems: list[str] = []
    unusable = None
    if surveys:
        notes = [*label_notes(first.labels, surveys), *notes]
        unusable = unusable_masks(list(surveys.values()))
        if own and unusable is None:
            problems += wrong_labels(first.labels, list(surveys.values()))
    return Doubts(notes=tuple(notes), problems=tuple(problems), unusable=unusable)


def _other_splits(splits: Mapping[str, Dataset]) -> Iterator[tuple[str, Dataset]]:
    for dataset in splits.values():
        if isinstance(dataset, AnnotatedPictures) and dataset.is_own_folder and "all" not in splits:
            yield from dataset.other_splits(splits)
            return
