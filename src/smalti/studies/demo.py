"""The demo: from nothing to a trained network, its report and its pictures, on scenes that need no download."""

import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from smalti import session
from smalti.data.dataset import open_dataset
from smalti.draw.image_files import save_png
from smalti.predict.folder import predict_files
from smalti.training.run import Reporting

RECIPE = "sis_cnn.quick"
PICTURES = 4


def run_demo(out: Path, write: Callable[[str], None], bar: bool = False) -> bool:
    """Trains, measures and predicts into `out`, which is emptied if a demo was there before; False = interrupted.

    Raises:
        ValueError: If `out` holds something else.
    """
    marker = out / ".smalti-demo"
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        raise ValueError(f"{out} exists and is no earlier demo: choose another folder with --out")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    marker.touch()
    write(f"1. Training {RECIPE} on procedural street scenes, from ImageNet features (about two minutes).")
    run = out / "run"
    if not session.train(RECIPE, out=run, reporting=Reporting(write=write, bar=bar)):
        return False
    write("2. Measuring on scenes it has not seen.")
    found = session.evaluate(run, split="test", out=out / "test")
    write(f"   mIoU {found['semantic.miou']:.3f}, pixel accuracy {found['semantic.pixel_accuracy']:.3f}")
    write("3. Predicting some pictures.")
    scenes = open_dataset("scenes", root=None, split="test", options={})
    pictures = out / "pictures"
    pictures.mkdir()
    for index in range(PICTURES):
        array = scenes.read(index).image.as_subclass(Tensor).permute(1, 2, 0).numpy()
        save_png(array, pictures / f"scene_{index}.png")
    predict_files(run, sorted(pictures.iterdir()), out / "answers", "both")
    write("\nDone. Look at")
    write(f"  {out / 'test' / 'report.html'}   what it can do: numbers, curves, best and worst pictures")
    write(f"  {run / 'curves.png'}   loss and accuracy for each epoch")
    for path in sorted((out / "answers").glob("*_overlay.jpg")):
        write(f"  {path}")
    return True
