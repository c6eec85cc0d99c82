"""A video through a network, and how fast: `python benchmarks/camvid_video.py RUN --data CAMVID --out FOLDER`.

Makes a video of a CamVid sequence (its test pictures whose names begin with --prefix, in order, 8 frames/s, H.264) with
a sweeping tone as sound, answers it, and prints frames a second beside the bare network's on the same frames, and the
process' peak memory. Checks that time stamps and sound came through, and writes three frames of the answer as PNG.
"""

import argparse
import resource
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image

import smalti
from smalti.data.pictures import read_picture
from smalti.predict.predictor import Predictor
from smalti.predict.video import predict_video
from smalti.predict.video_options import VideoOptions

RATE, SOUND_RATE = 8, 48000


def make_video(pictures: list[torch.Tensor], path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", RATE, {"crf": "16"})
        stream.height, stream.width = pictures[0].shape[1:]
        stream.pix_fmt = "yuv420p"
        track = container.add_stream("aac", SOUND_RATE, layout="mono")
        seconds = np.arange(SOUND_RATE * len(pictures) // RATE) / SOUND_RATE
        sound = av.AudioFrame.from_ndarray(
            (0.2 * np.sin(2 * np.pi * (300 + 20 * seconds) * seconds)).astype(np.float32)[None], "fltp", "mono"
        )
        sound.sample_rate, sound.pts, sound.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
        for k, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.mux(track.encode(sound))
        container.mux(track.encode(None))


def sound_of(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])


def times_of(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def save_frames(path: Path, numbers: set[int], out: Path) -> None:
    with av.open(str(path)) as container:
        for k, frame in enumerate(container.decode(video=0)):
            if k in numbers:
                Image.fromarray(frame.to_ndarray(format="rgb24")).save(out / f"{path.stem}_{k:03d}.png")


def bare_rate(predictor: Predictor, pictures: list[torch.Tensor]) -> float:
    """Frames a second of the network alone: pictures in memory, answers thrown away."""
    predictor(pictures[0])
    begin = time.perf_counter()
    for picture in pictures:
        predictor(picture)
    return len(pictures) / (time.perf_counter() - begin)


def end_to_end(work: Callable[[], int]) -> float:
    begin = time.perf_counter()
    return work() / (time.perf_counter() - begin)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("--data", type=Path, required=True, help="Folder of CamVid, with test/ inside.")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--prefix", default="0001TP")
    arguments.add_argument("--smoothing", type=float, default=0.0)
    arguments.add_argument("--every", type=int, default=1)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    pictures = [read_picture(path) for path in sorted((options.data / "test").glob(f"{options.prefix}*.png"))]
    source = options.out / f"{options.prefix}.mp4"
    make_video(pictures, source)
    predictor = smalti.load(options.run)
    answer = options.out / f"{options.prefix}_overlay.mp4"
    chosen = VideoOptions(smoothing=options.smoothing, every=options.every)
    before, loaded = bare_rate(predictor, pictures), peak_mib()
    rate = end_to_end(lambda: predict_video(predictor, source, answer, predictor.labels, chosen).frames)
    after = bare_rate(predictor, pictures)
    bare = (before + after) / 2
    print(f"{len(pictures)} frames of {tuple(pictures[0].shape[1:])}: {rate:.2f} frames/s end to end, "
          f"bare network {before:.2f} before and {after:.2f} after: {100 * rate / bare:.0f} %")  # fmt: skip
    print(f"peak memory: {loaded:.0f} MiB with the network and all pictures, {peak_mib():.0f} MiB after the video")
    print(f"time stamps equal: {times_of(source) == times_of(answer)}; "
          f"sound equal: {np.array_equal(sound_of(source), sound_of(answer))}")  # fmt: skip
    save_frames(answer, {0, len(pictures) // 2, len(pictures) - 1}, options.out)


if __name__ == "__main__":
    main()
