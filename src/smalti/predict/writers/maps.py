"""Maps of a value for each pixel, in colour: edges, distances, difficulty."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smalti.containers import Predictions
from smalti.draw.heat import heat_map, with_scale
from smalti.draw.image_files import save_drawing
from smalti.files import write_text
from smalti.predict.writers.contract import Entry, Picture, Writer, as_array, known


class Heat(Writer):
    """`NAME_edges.jpg` or `NAME_distances.jpg`: a map of the network from 0 to 1, in colour with its scale."""

    def __init__(self, out: Path, task: str, title: str) -> None:
        super().__init__(out)
        self.task, self.title = task, title
        self.endings, self.needs = (f"_{task}.jpg",), (task,)

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry | None:
        """See `Writer`."""
        self._draw(name, picture, known(answer, self.task), self.title)
        return None

    def _draw(self, name: str, picture: Picture, values: Any, title: str) -> None:
        save_drawing(with_scale(heat_map(picture, as_array(values)), title), self.out / f"{name}_{self.task}.jpg")


class Difficulty(Heat):
    """`NAME_difficulty.jpg` and `difficulty.csv`, the pictures in the order in which a person should look at them."""

    summaries = ("difficulty.csv",)

    def __init__(self, out: Path) -> None:
        super().__init__(out, "difficulty", "probability that the coarse answer is wrong")

    def add(self, file: Path, name: str, picture: Picture, answer: Predictions) -> Entry:
        """See `Writer`."""
        difficulty = known(answer, "difficulty")
        mean = float(difficulty.mean())
        self._draw(name, picture, difficulty, f"{self.title} (mean {100 * mean:.0f} %)")
        return {"picture": str(file), "mean": mean}

    def finish(self, entries: Sequence[Entry]) -> None:
        """See `Writer`."""
        ranked = sorted(entries, key=lambda entry: (-entry["mean"], entry["picture"]))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["rank", "picture", "mean_difficulty"])
        writer.writerows([rank, entry["picture"], f"{entry['mean']:.4f}"] for rank, entry in enumerate(ranked, start=1))
        write_text(self.out / "difficulty.csv", text.getvalue())
