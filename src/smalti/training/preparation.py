"""Everything that is checked and resolved before a run's first step: of the data, then of the network."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smalti.checkpoint import Card, check_card
from smalti.data.cache import CachedDataset
from smalti.data.contract import unwrapped
from smalti.data.dataset import AtInputScale, CountIgnored, Dataset, WithMirrorImages, open_dataset
from smalti.data.derive import WithDistances
from smalti.data.doubts import find_doubts
from smalti.data.fingerprints import ImageRecord
from smalti.data.statistics import pixel_counts
from smalti.geometry.distances import Norm
from smalti.models.contract import SegmentationModel
from smalti.models.create import build, model_class
from smalti.recipe import Recipe
from smalti.training.crops import fitted_crop
from smalti.training.monitoring import choose_monitor, with_monitor
from smalti.training.resuming import ContinuedRun, check_labels, continued_crop, continued_images
from smalti.training.schedule import RunLength, check_schedule
from smalti.training.truth import check_truth


@dataclass(frozen=True, kw_only=True)
class DataSetup:
    """The data of a run; `write` takes the lines that say what was decided."""

    recipe: Recipe
    train: Dataset
    validation: Dataset
    write: Callable[[str], None]
    continued: ContinuedRun | None = None
    images: ImageRecord | None = None
    """Those of both splits, once they are known."""


@dataclass(frozen=True, kw_only=True)
class RunSetup(DataSetup):
    """What a run is made of."""

    model: SegmentationModel


def prepare(recipe: Recipe, write: Callable[[str], None], continued: ContinuedRun | None = None) -> RunSetup:
    """Opens the data, builds the network (without first weights if a run is continued), and checks both.

    Raises:
        ValueError: If recipe, network and data do not go together.
    """
    if continued is not None and recipe.input.value_range is None:
        recipe = _with_value_range(recipe, continued.recipe.input.value_range)
    train, validation = open_splits(recipe)
    data = DataSetup(recipe=recipe, train=train, validation=validation, write=write, continued=continued)
    for look in DATA_STEPS:
        data = look(data) or data
    weights = None if continued else data.recipe.weights
    model = build(model_class(recipe.model), data.recipe.config, train.labels, weights)
    setup = RunSetup(**vars(data), model=model)
    for step in NETWORK_STEPS:
        setup = step(setup) or setup
    return setup


def open_splits(recipe: Recipe) -> tuple[Dataset, Dataset]:
    """The training and validation pictures of a recipe, cached and wrapped as it says."""
    data = recipe.data
    opened = []
    value_range = recipe.input.value_range
    for split in (data.train, data.validation):
        root = None if data.root is None else Path(data.root)
        dataset = open_dataset(data.set, root=root, split=split, options=data.options, value_range=value_range)
        value_range = value_range or _value_range_of(dataset)
        if split == data.train and recipe.input.fit == "pad" and recipe.input.size is not None:
            dataset = AtInputScale(dataset, recipe.input)
        if data.cache:
            dataset = CachedDataset(dataset)
        opened.append(CountIgnored(dataset) if data.count_ignored else dataset)
    train, validation = opened
    if train.labels != validation.labels:
        raise ValueError(f"the splits {data.train} and {data.validation} have different class tables")
    return (WithMirrorImages(train) if recipe.augmentation.offline_flips else train), validation


def _value_range_of(*datasets: Dataset) -> tuple[float, float] | None:
    """The range of the first set with images deeper than 8 bits."""
    ranges = (dataset.scaling.value_range for dataset in datasets if dataset.scaling is not None)
    first = next(ranges, None)
    return None if first is None else (first.low, first.high)


def _with_value_range(recipe: Recipe, value_range: tuple[float, float] | None) -> Recipe:
    """The measured range becomes a setting, so that the checkpoint's recipe says what was used."""
    if value_range is None:
        return recipe
    return dataclasses.replace(recipe, input=dataclasses.replace(recipe.input, value_range=value_range))


def resolve_value_range(setup: DataSetup) -> DataSetup:
    """The range that images deeper than 8 bits were found to have becomes a setting; said."""
    for split, dataset in ((setup.recipe.data.train, setup.train), (setup.recipe.data.validation, setup.validation)):
        if dataset.scaling is not None:
            setup.write(f"{split}: {dataset.scaling.sentence('--set input.value_range=LOW,HIGH')}")
            break  # the other split has the same range
    value_range = _value_range_of(setup.train, setup.validation)
    return dataclasses.replace(setup, recipe=_with_value_range(setup.recipe, value_range))


def resolve_class_weights(setup: DataSetup) -> DataSetup:
    """Class weights named by their rule become numbers, so that the checkpoint's recipe says what was used."""
    recipe = setup.recipe
    loss = recipe.config.semantic_loss
    if not isinstance(loss.class_weights, str):
        return setup
    if setup.continued is not None:
        config = setup.continued.recipe.config
    else:
        config = dataclasses.replace(recipe.config, semantic_loss=loss.resolved(*pixel_counts(setup.train)))
    return dataclasses.replace(setup, recipe=dataclasses.replace(recipe, config=config))


def check_channels(setup: RunSetup) -> None:
    """Raises ValueError if the network takes another number of channels than the images have."""
    if setup.train.channels != setup.model.in_channels:
        raise ValueError(f"the pictures have {setup.train.channels} channels, the network takes "
                         f"{setup.model.in_channels}: set config.in_channels={setup.train.channels}")  # fmt: skip


def resolve_monitor(setup: RunSetup) -> RunSetup:
    """The recipe names the metric that chooses the best weights, see `choose_monitor`; said where it is not mIoU."""
    recipe = setup.recipe
    if setup.continued is not None and recipe.training.monitor is None and setup.continued.recipe.training.monitor:
        recipe = with_monitor(recipe, setup.continued.recipe.training.monitor)
    monitor, reason = choose_monitor(recipe, setup.model.needs, setup.validation)
    if reason is not None:
        setup.write(f"note: the best weights are chosen by {monitor}: {reason} (training.monitor)")
    return dataclasses.replace(setup, recipe=with_monitor(recipe, monitor))


def add_distances(setup: RunSetup) -> RunSetup:
    """Distance maps are computed on whole images for networks that learn edges or distances."""
    if not setup.model.needs & {"distances", "edges"}:
        return setup
    norm: Norm = getattr(setup.recipe.config, "distance_norm", "instance")
    train, validation = (WithDistances(part, norm) for part in (setup.train, setup.validation))
    return dataclasses.replace(setup, train=train, validation=validation)


def write_data_notes(setup: DataSetup) -> None:
    """Says what the data sets decided when they were opened."""
    of_validation = (f"validation: {note}" for note in setup.validation.notes if note not in setup.train.notes)
    for note in dict.fromkeys((*setup.train.notes, *of_validation)):
        setup.write(f"note: {note}")


def look_at_labels(setup: DataSetup) -> None:
    """Says how masks were read and what is doubtful; raises ValueError for labels that cannot be meant."""
    data = setup.recipe.data
    splits = {data.train: unwrapped(setup.train), data.validation: unwrapped(setup.validation)}
    doubts = find_doubts(splits)
    for note in doubts.notes:
        setup.write(f"note: {note}")
    doubts.check()


def check_learnable(setup: RunSetup) -> None:
    """See `check_truth`."""
    check_truth(setup.model, setup.train, setup.write)


def record_images(setup: DataSetup) -> DataSetup:
    """Which images the run uses; raises ValueError if a continued run has others than it began with."""
    images = ImageRecord.of(setup.train, setup.validation)
    if setup.continued is not None:
        check_labels(setup.continued, setup.train.labels)
        images = continued_images(setup.continued, images, setup.write)
    return dataclasses.replace(setup, images=images)


def resolve_crop(setup: RunSetup) -> RunSetup:
    """Training crops follow the sizes of the images, see `fitted_crop`; said where they are not the recipe's."""
    crop, note = setup.recipe.augmentation.crop, None
    if setup.continued is None or crop != setup.continued.recipe.augmentation.crop:
        crop, note = fitted_crop(setup.recipe, setup.model.stride, setup.train)
    if setup.continued is not None:
        crop = continued_crop(setup.continued, crop)
    if note is not None:
        setup.write(note)
    augmentation = dataclasses.replace(setup.recipe.augmentation, crop=crop)
    return dataclasses.replace(setup, recipe=dataclasses.replace(setup.recipe, augmentation=augmentation))


def check_length(setup: DataSetup) -> None:
    """Raises ValueError if so short a training cannot take the recipe's schedule; says what has no effect in it."""
    check_schedule(setup.recipe.training, RunLength.of(setup.recipe, len(setup.train)), setup.write)


def note_choice_by_test_split(setup: DataSetup) -> None:
    """Says if the best weights are chosen by the images that the paper tests on."""
    if setup.recipe.data.validation == "test" and setup.recipe.training.validate_every is not None:
        setup.write("note: the best weights are chosen by the test pictures, whose numbers then say too much: "
                    "--set training.validate_every=none looks at them once, at the end")  # fmt: skip


def check_checkpoint(setup: RunSetup) -> None:
    """See `check_card`: raises ValueError if the run's checkpoints could not be loaded again."""
    check_card(Card(recipe=setup.recipe, labels=setup.model.labels, metrics={}))


DATA_STEPS: tuple[Callable[[DataSetup], DataSetup | None], ...] = (
    check_length,
    resolve_value_range,
    write_data_notes,
    look_at_labels,
    record_images,
    resolve_class_weights,
    note_choice_by_test_split,
)
NETWORK_STEPS: tuple[Callable[[RunSetup], RunSetup | None], ...] = (
    check_channels,
    check_learnable,
    resolve_monitor,
    resolve_crop,
    add_distances,
    check_checkpoint,
)
"""Each looks at the setup and raises ValueError, says a line, or returns a setup that takes its place."""
