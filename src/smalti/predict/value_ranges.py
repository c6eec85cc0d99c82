"""The ranges of values that a command's images deeper than 8 bits become 8 bits by: one for each kind of image."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

from smalti.data.deep_images import deep_kind
from smalti.data.pictures import sample_picture
from smalti.data.value_range import ValueRange, ValueSample, measure_range
from smalti.data.value_survey import survey_values
from smalti.predict.geotiff import sample_raster
from smalti.predict.journal import Journal
from smalti.predict.loading import trained_value_range
from smalti.predict.options import Options

HOW_TO_CHANGE = "--scale LOW,HIGH"
AS_TRAINED = "as the model was trained"
LEAST_FILLED = 0.01
"""Share of the model's range that the images' values fill at least, if they are of the same units."""


def choose_value_ranges(
    model: Path,
    files: Sequence[Path],
    rasters: Collection[Path],
    *,
    options: Options,
    journal: Journal,
    say: Callable[[str], None],
) -> dict[Path, ValueRange]:
    """The range of each image deeper than 8 bits; says once for each kind of image which it is.

    It is the one that `options` give, else that of the continued run, else that of the model's training, else measured
    on the images of the same kind (type of values, file format and number of bands), which may come from one camera. It
    is measured, too, if their values fill less than a hundredth of the range of the training (say, floats of 0 to 1).

    Raises:
        ValueError: If there is no such model.
    """
    groups: dict[str, list[Path]] = {}
    for file in files:
        if (kind := deep_kind(file)) is not None:
            groups.setdefault(str(kind), []).append(file)
    if not groups:
        return {}
    trained = trained_value_range(model, options.changes)
    chosen: dict[Path, ValueRange] = {}

    def sample(file: Path) -> ValueSample:
        return sample_raster(file, options.bands) if file in rasters else sample_picture(file)

    for name, group in groups.items():
        given, origin = options.value_range, "as --scale says"
        if given is None and name in journal.value_ranges:
            given, origin = ValueRange(*journal.value_ranges[name]), "as in the run that is continued"
        elif given is None and trained is not None:
            given, origin = ValueRange(*trained), AS_TRAINED
        scaling = survey_values(group, given, origin, sample, compare_values=True)
        if scaling is not None and origin == AS_TRAINED and scaling.filled_share() < LEAST_FILLED:
            own = measure_range(scaling.samples)
            origin = f"measured: the range that the model was trained with, {scaling.value_range}, does not fit"
            scaling = replace(scaling, value_range=own, origin=origin)
        if scaling is not None:
            say(replace(scaling, kind=name, total=len(files)).sentence(HOW_TO_CHANGE))
            journal.value_ranges[name] = [scaling.value_range.low, scaling.value_range.high]
            chosen |= dict.fromkeys(scaling.files, scaling.value_range)
    return chosen
