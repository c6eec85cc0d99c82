"""Classes of pixels: label ids, drawings over the picture, and probabilities."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from smalti.containers import Predictions
from smalti.draw.image_files import save_drawing
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import overlay, save_index_png
from smalti.files import replacing, write_text
from smalti.labels import LabelSet
from smalti.predict.writers.contract import Entry, NoSuchAnswerError, Picture, Writer, as_array, known

ZARR = "_probabilities.zarr"
CHUNK = 512
"""Pixels of a side of a chunk: a window of a large picture is read without the rest."""


class Labels(Writer):
    """`NAME.png`: label ids as an index mask."""

    endings, needs = (".png",), ("semantic",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        labels = as_array(known(answer, "semantic"))
        save_index_png(labels, answer.labels, self.out / f"{name}.png")


class Overlay(Writer):
    """`NAME_overlay.jpg`: classes in colour over the picture, with a legend of those that occur."""

    endings, needs = ("_overlay.jpg",), ("semantic",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        labels = as_array(known(answer, "semantic"))
        drawing = with_legend(overlay(picture, labels, answer.labels), legend_entries(labels, answer.labels))
        save_drawing(drawing, self.out / f"{name}_overlay.jpg")


class Probabilities(Writer):
    """`NAME_probabilities.npy` (float16, classes x height x width), and `classes.json`, which names the classes."""

    endings, needs, summaries = ("_probabilities.npy",), ("probabilities",), ("classes.json",)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        probabilities = np.ascontiguousarray(as_array(known(answer, "probabilities").half()))
        header = np.lib.format.header_data_from_array_1_0(probabilities)
        with replacing(self.out / f"{name}_probabilities.npy") as part, part.open("wb") as opened:
            np.lib.format.write_array_header_1_0(opened, header)
            opened.write(probabilities.data)  # np.save writes past Python's file, and may overlook a full disk
        return answer.labels.to_json()

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        write_text(self.out / "classes.json", LabelSet.from_json(entries[0]).to_text())


class ZarrProbabilities(Writer):
    """`NAME_probabilities.zarr`: the same in chunks, so that windows of large maps can be read; names the classes."""

    endings, needs = (ZARR,), ("probabilities",)

    def check(self, answer: Predictions) -> None:
        """See `Writer`."""
        super().check(answer)
        try:
            import zarr  # noqa: F401, PLC0415  # an optional package
        except ImportError as error:
            raise NoSuchAnswerError('--show zarr needs the package zarr: pip install "smalti[geo]"') from error

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> None:
        """See `Writer`."""
        import zarr  # noqa: PLC0415  # an optional package

        probabilities = as_array(known(answer, "probabilities").half())
        place = self.out / f"{name}{ZARR}"
        part = self.out / f".{place.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            zarr.create_array(
                store=str(part),
                data=probabilities,
                chunks=(len(probabilities), *(min(CHUNK, side) for side in probabilities.shape[1:])),
                attributes={"classes": answer.labels.to_json()},
                dimension_names=("class", "y", "x"),
            )
            shutil.rmtree(place, ignore_errors=True)
            part.rename(place)
        finally:
            shutil.rmtree(part, ignore_errors=True)
