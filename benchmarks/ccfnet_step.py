"""One training step of ccfnet beside segmentation-models-pytorch's DeepLabV3: `python benchmarks/ccfnet_step.py`.

Both are ResNet-50 at output stride 8. Stepped in turns in one process: ours, ours with the fine branch's concatenation
really built ("literal"), the peer at its defaults (float32), the peer with our settings (bfloat16, channels last).
"""

import argparse
import statistics

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from train_step import ours, peers, stepper

import smalti

CLASSES = 8


class LiteralPool(torch.nn.Module):
    """The fine branch's pyramid pooling as it is usually written."""

    def __init__(self, pool: torch.nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x):
        resized = [F.interpolate(m, x.shape[-2:], mode="bilinear") for m in self.pool.branches(x)]
        return F.relu(self.pool.fuse_norm(self.pool.fuse(torch.cat([x, *resized], 1))))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    print(f"batch {options.batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print("| size | ours, s | literal, s | peer's defaults, s | peer with our settings, s | faster than the peer |")
    print("|---|---|---|---|---|---|")
    for size in ((240, 320), (320, 480)):
        pictures = torch.randint(0, 256, (options.batch, 3, *size), dtype=torch.uint8)
        labels = torch.randint(0, CLASSES, (options.batch, *size))
        literal = smalti.create_model("ccfnet", classes=CLASSES)
        literal.fine.pool = LiteralPool(literal.fine.pool)
        make_peer = lambda: smp.DeepLabV3("resnet50", encoder_weights=None, classes=CLASSES, encoder_output_stride=8)  # noqa: E731
        steps = {
            "ours": stepper(smalti.create_model("ccfnet", classes=CLASSES), ours, True, pictures, labels),
            "literal": stepper(literal, ours, True, pictures, labels),
            "plain": stepper(make_peer(), peers, False, pictures, labels),
            "equal": stepper(make_peer(), peers, True, pictures, labels),
        }
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(options.rounds + 2):
            for name, step in steps.items():
                taken = step()
                if turn >= 2:
                    seconds[name].append(taken)
        a, b, c, d = (statistics.median(seconds[name]) for name in ("ours", "literal", "plain", "equal"))
        print(f"| {size[0]}x{size[1]} | {a:.2f} | {b:.2f} | {c:.2f} | {d:.2f} | {c / a:.2f} |", flush=True)


if __name__ == "__main__":
    main()
