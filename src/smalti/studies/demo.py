"""The demo: from nothing to a trained network, its report and its pictures, on scenes that need no download."""

import fnmatch
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from smalti import session
from smalti.data.dataset import open_dataset
from smalti.draw.image_files import save_png
from smalti.files import write_text
from smalti.ownership import FileState, refuse, state_of
from smalti.predict.folder import predict_files
from smalti.training.run import Reporting

RECIPE = "sis_cnn.quick"
PICTURES = 4
MANIFEST = ".smalti-demo"
"""In the demo's folder: the files that the demo wrote, as JSON; empty while it runs, and of earlier versions."""
PLANNED = (
    *(f"run/{name}" for name in session.RUN_FILES),
    *("test/metrics.json", "test/report.html", "answers/predictions.jsonl"),
    *(f"pictures/scene_{k}.png" for k in range(PICTURES)),
    *(f"answers/scene_{k}{ending}" for k in range(PICTURES) for ending in (".png", "_overlay.jpg")),
)
"""What the demo writes, as patterns of paths below its folder."""


def run_demo(out: Path, write: Callable[[str], None], bar: bool = False, *, overwrite: bool = False) -> bool:
    """Trains, measures and predicts into `out`; False = interrupted.

    Of an earlier demo there, the files that it wrote are removed first; people's own files stay.

    Raises:
        ValueError: If `out` holds something else than an earlier demo, or a file of another maker is in the way.
    """
    _clear(out, write, overwrite)
    with _remembered(out):
        return _run(out, write, bar)


def _clear(out: Path, write: Callable[[str], None], overwrite: bool) -> None:
    """Makes room for a demo."""
    if out.exists() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise ValueError(f"{out} exists and is no earlier demo: choose another folder with --out")
    written = _written(out)
    files = [path for path in sorted(out.rglob("*")) if path.is_symlink() or not path.is_dir()]
    own = {path for path in files if _is_own(path.relative_to(out).as_posix(), written, state_of(path))}
    theirs = [path for path in files if path not in own and path != out / MANIFEST]
    planned = [path for path in theirs if _is_planned(path.relative_to(out).as_posix())]
    if not overwrite:
        refuse(planned)
    kept = [path for path in theirs if path not in planned]
    if in_run := [path for path in kept if out / "run" in path.parents]:
        raise ValueError(f"{in_run[0]} lies where the demo trains, and is none of its files: move it, or choose "
                         "another folder with --out")  # fmt: skip
    if kept:
        write(f"note: {len(kept)} files in {out} are none of the demo's and stay, such as {kept[0]}")
    _remove([*own, *planned], out)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / MANIFEST, "")


def _written(out: Path) -> dict[str, FileState] | None:
    """The files of an earlier demo; None = it did not come to its end, or is of a version that kept no list."""
    try:
        files: dict[str, list[int]] = json.loads((out / MANIFEST).read_text(encoding="utf-8"))["files"]
        return {name: (size, time) for name, (size, time) in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _is_own(name: str, written: dict[str, FileState] | None, state: FileState) -> bool:
    return _is_planned(name) if written is None else written.get(name) == state


def _is_planned(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PLANNED)


def _remove(files: Iterable[Path], out: Path) -> None:
    """The files, then the folders below `out` that are empty without them."""
    for path in files:
        path.unlink()
    for folder in sorted((path for path in out.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


@contextmanager
def _remembered(out: Path) -> Iterator[None]:
    """Writes the list of the demo's files, however the block ends."""
    try:
        yield
    finally:
        files = ((path.relative_to(out).as_posix(), path) for path in sorted(out.rglob("*")) if path.is_file())
        states = {name: state_of(path) for name, path in files if _is_planned(name)}
        write_text(out / MANIFEST, json.dumps({"files": states}, indent=1) + "\n")


def _run(out: Path, write: Callable[[str], None], bar: bool) -> bool:
    write(f"1. Training {RECIPE} on procedural street scenes, from ImageNet features (about two minutes).")
    run = out / "run"
    if not session.train(RECIPE, out=run, reporting=Reporting(write=write, bar=bar)):
        return False
    write("2. Measuring on scenes it has not seen.")
    found = session.evaluate(run, split="test", out=out / "test")
    write(f"   mIoU {found['semantic.miou']:.3f}, pixel accuracy {found['semantic.pixel_accuracy']:.3f}")
    write("3. Predicting some pictures.")
    scenes = open_dataset("scenes", root=None, split="test", options={})
    pictures = [out / "pictures" / f"scene_{index}.png" for index in range(PICTURES)]
    pictures[0].parent.mkdir(exist_ok=True)
    for index, path in enumerate(pictures):
        array = scenes.read(index).image.as_subclass(Tensor).permute(1, 2, 0).numpy()
        save_png(array, path)
    predict_files(run, pictures, out / "answers", "both")
    write("\nDone. Look at")
    write(f"  {out / 'test' / 'report.html'}   what it can do: numbers, curves, best and worst pictures")
    write(f"  {run / 'curves.png'}   loss and accuracy for each epoch")
    for path in pictures:
        write(f"  {out / 'answers' / f'{path.stem}_overlay.jpg'}")
    return True
