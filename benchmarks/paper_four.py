"""Graphs of SIS-CNN's four paper runs side by side: `python benchmarks/paper_four.py FOLDER`.

FOLDER holds the run folders vgg16_unet, vgg16_pspnet, resnet50_unet and resnet50_pspnet; the picture is written beside
this file.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from smalti.training.callbacks import read_history

NETWORKS = ("vgg16_unet", "vgg16_pspnet", "resnet50_unet", "resnet50_pspnet")
GRAPHS = {
    "train_loss": "Training loss",
    "validation_loss": "Validation loss",
    "pixel_accuracy": "Validation pixel accuracy",
    "miou": "Validation mIoU, 12 classes",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    histories = {name: read_history(folder / name / "history.csv") for name in NETWORKS}
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, (column, title) in zip(figure.subplots(1, len(GRAPHS)), GRAPHS.items(), strict=True):
        for name, rows in histories.items():
            axes.plot([r["epoch"] for r in rows], [r[column] for r in rows], "o-", label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch of 512 steps")
        axes.set_xlim(0.5, max(len(rows) for rows in histories.values()) + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_ylim(0, 1.1 * max(r[column] for rows in histories.values() for r in rows))
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
