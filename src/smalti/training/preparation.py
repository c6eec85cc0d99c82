"""Everything that is checked and resolved before a run's first step, in the order of `PREPARATION`."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smalti.data.cache import CachedDataset
from smalti.data.contract import unwrapped
from smalti.data.dataset import AtInputScale, CountIgnored, DataError, Dataset, WithMirrorImages, open_dataset
from smalti.data.derive import WithDistances
from smalti.data.doubts import find_doubts
from smalti.data.statistics import pixel_counts
from smalti.geometry.distances import Norm
from smalti.models.contract import SegmentationModel
from smalti.models.create import build, model_class
from smalti.recipe import Recipe
from smalti.training.monitoring import choose_monitor, with_monitor
from smalti.training.truth import check_truth

MANY_PIXELS = 8 * 1024 * 1024
"""Of one batch, from which on a run says how to make it smaller."""


@dataclass(frozen=True, kw_only=True)
class RunSetup:
    """What a run is made of; `write` takes the lines that say what was decided."""

    recipe: Recipe
    model: SegmentationModel
    train: Dataset
    validation: Dataset
    write: Callable[[str], None]


def prepare(recipe: Recipe, write: Callable[[str], None], *, resume: bool) -> RunSetup:
    """Opens the data, builds the network (without first weights if `resume`) and applies `PREPARATION`.

    Raises:
        ValueError: If recipe, network and data do not go together.
    """
    train, validation = open_splits(recipe)
    recipe = _with_class_weights(recipe, train)
    model = build(model_class(recipe.model), recipe.config, train.labels, None if resume else recipe.weights)
    setup = RunSetup(recipe=recipe, model=model, train=train, validation=validation, write=write)
    for step in PREPARATION:
        setup = step(setup) or setup
    return setup


def open_splits(recipe: Recipe) -> tuple[Dataset, Dataset]:
    """The training and validation pictures of a recipe, cached and wrapped as it says."""
    data = recipe.data
    opened = []
    for split in (data.train, data.validation):
        root = None if data.root is None else Path(data.root)
        dataset = open_dataset(data.set, root=root, split=split, options=data.options)
        if split == data.train and recipe.input.fit == "pad" and recipe.input.size is not None:
            dataset = AtInputScale(dataset, recipe.input)
        if data.cache:
            dataset = CachedDataset(dataset)
        opened.append(CountIgnored(dataset) if data.count_ignored else dataset)
    train, validation = opened
    if train.labels != validation.labels:
        raise ValueError(f"the splits {data.train} and {data.validation} have different class tables")
    return (WithMirrorImages(train) if recipe.augmentation.offline_flips else train), validation


def _with_class_weights(recipe: Recipe, train: Dataset) -> Recipe:
    """Class weights named by their rule become numbers, so that the checkpoint's recipe says what was used."""
    loss = recipe.config.semantic_loss
    if not isinstance(loss.class_weights, str):
        return recipe
    config = dataclasses.replace(recipe.config, semantic_loss=loss.resolved(*pixel_counts(train)))
    return dataclasses.replace(recipe, config=config)


def check_channels(setup: RunSetup) -> None:
    """Raises ValueError if the network takes another number of channels than the images have."""
    if setup.train.channels != setup.model.in_channels:
        raise ValueError(f"the pictures have {setup.train.channels} channels, the network takes "
                         f"{setup.model.in_channels}: set config.in_channels={setup.train.channels}")  # fmt: skip


def resolve_monitor(setup: RunSetup) -> RunSetup:
    """The recipe names the metric that chooses the best weights, see `choose_monitor`; said where it is not mIoU."""
    monitor, reason = choose_monitor(setup.recipe, setup.model.needs, setup.validation)
    if reason is not None:
        setup.write(f"note: the best weights are chosen by {monitor}: {reason} (training.monitor)")
    return dataclasses.replace(setup, recipe=with_monitor(setup.recipe, monitor))


def add_distances(setup: RunSetup) -> RunSetup:
    """Distance maps are computed on whole images for networks that learn edges or distances."""
    if not setup.model.needs & {"distances", "edges"}:
        return setup
    norm: Norm = getattr(setup.recipe.config, "distance_norm", "instance")
    train, validation = (WithDistances(part, norm) for part in (setup.train, setup.validation))
    return dataclasses.replace(setup, train=train, validation=validation)


def write_data_notes(setup: RunSetup) -> None:
    """Says what the data sets decided when they were opened."""
    of_validation = (f"validation: {note}" for note in setup.validation.notes if note not in setup.train.notes)
    for note in dict.fromkeys((*setup.train.notes, *of_validation)):
        setup.write(f"note: {note}")


def look_at_labels(setup: RunSetup) -> None:
    """Says how masks were read and what is doubtful; raises ValueError for labels that cannot be meant."""
    data = setup.recipe.data
    splits = {data.train: unwrapped(setup.train), data.validation: unwrapped(setup.validation)}
    doubts = find_doubts(splits)
    for note in doubts.notes:
        setup.write(f"note: {note}")
    if doubts.problems:
        raise DataError("; ".join(doubts.problems))


def check_learnable(setup: RunSetup) -> None:
    """See `check_truth`."""
    check_truth(setup.model, setup.train, setup.write)


def note_large_batches(setup: RunSetup) -> None:
    """Large photographs in whole batches end in minutes a step, or in no memory: better said before."""
    recipe = setup.recipe
    if recipe.augmentation.crop is not None or recipe.input.fit == "stretch":
        return
    height, width = setup.train.read(0).size
    if height * width * recipe.training.batch > MANY_PIXELS:
        setup.write(
            f"note: batches of {recipe.training.batch} whole pictures of {height}x{width} need much memory and time; "
            "--set input.size=HEIGHT,WIDTH makes pictures smaller, --set augmentation.crop=HEIGHT,WIDTH trains on parts"
        )


def note_choice_by_test_split(setup: RunSetup) -> None:
    """Says if the best weights are chosen by the images that the paper tests on."""
    if setup.recipe.data.validation == "test" and setup.recipe.training.validate_every is not None:
        setup.write("note: the best weights are chosen by the test pictures, whose numbers then say too much: "
                    "--set training.validate_every=none looks at them once, at the end")  # fmt: skip


PREPARATION: tuple[Callable[[RunSetup], RunSetup | None], ...] = (
    check_channels,
    write_data_notes,
    look_at_labels,
    check_learnable,
    resolve_monitor,
    add_distances,
    note_large_batches,
    note_choice_by_test_split,
)
"""Each looks at the setup and raises ValueError, says a line, or returns a setup that takes its place."""
