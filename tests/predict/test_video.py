"""Videos made here with PyAV, answered by fake predictors, and read again with PyAV."""

import json
import sys
import threading
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image

from smalti.containers import ClassScores, Predictions
from smalti.labels import LabelSet
from smalti.predict import video_reading
from smalti.predict.ahead import ahead
from smalti.predict.smoothing import Cuts, Smoothing
from smalti.predict.video import predict_video
from smalti.predict.video_options import VideoOptions, answer_name, is_video
from smalti.predict.writers import NoSuchAnswerError

LABELS = LabelSet(names=("road", "sky"), colors=((200, 40, 40), (40, 40, 200)))
SIZE = (48, 256)
TICKS = Fraction(1, 12800)


def halves(size, left=(200, 150, 100), right=(20, 60, 100)):
    picture = np.empty((*size, 3), np.uint8)
    picture[:, : size[1] // 2], picture[:, size[1] // 2 :] = left, right
    return picture


def tone(samples, rate=48000):
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)).astype(np.float32)


def make_video(path, pictures, times=None, *, codec="libx264", sound=None, turn=None, options=None, muxer=None):
    """`times` in 1/12800 s; `sound` a codec for a tone of 440 Hz as long as the video."""
    times = [512 * k for k in range(len(pictures))] if times is None else times
    with av.open(str(path), "w", format=muxer, options=options or {}) as container:
        stream = container.add_stream(codec, 25, {"crf": "5", "bf": "0"} if codec == "libx264" else {})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = {"libx264": "yuv444p", "png": "rgb24"}.get(codec, "yuv420p")
        stream.codec_context.time_base = TICKS
        if turn is not None:
            stream.set_display_rotation(turn)
        track = container.add_stream(sound, 48000, layout="mono") if sound else None
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, TICKS
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track:
            frame = av.AudioFrame.from_ndarray(tone(int(48000 * times[-1] * TICKS))[None], "fltp", "mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(track.encode(frame))
            container.mux(track.encode(None))
    return path


def frames_of(path, pixels="rgb24"):
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format=pixels)) for frame in container.decode(video=0)]


def sound_of(path):
    with av.open(str(path)) as container:
        return [(p.pts * p.time_base, bytes(p)) for p in container.demux(audio=0) if p.pts is not None]


def left_is_road(picture):
    """Road in the left half."""
    semantic = torch.ones(picture.shape[1:], dtype=torch.uint8)
    semantic[:, : picture.shape[2] // 2] = 0
    return Predictions(labels=LABELS, semantic=semantic)


def run(predict, source, out, progress=None, **options):
    return predict_video(predict, source, out, LABELS, VideoOptions(**options), progress)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    assert [t.name for t in threading.enumerate() if t.name == "ahead"] == []


def test_frames_times_and_sound_survive(tmp_path):
    """The picture half and half with its class's colour; uneven time stamps; the sound byte for byte."""
    picture = halves(SIZE)
    times = [0, 512, 2000, 2100, 9000, 30000]
    source = make_video(tmp_path / "in.mp4", [picture] * 6, times, sound="aac")
    done = []
    result = run(left_is_road, source, tmp_path / "out.mp4", lambda *counts: done.append(counts))
    assert (result.frames, result.ended, result.problem, result.notes) == (6, "complete", "", [])
    assert done == [(k, 6) for k in range(1, 7)]
    frames = frames_of(result.path)
    assert [time for time, _ in frames] == [t * TICKS for t in times]
    colors = halves(SIZE, *LABELS.colors)
    expected = (picture / 2 + colors / 2)[2:-2, [4, 60, 124, 132, 250]]
    for _, frame in frames:
        assert frame.shape[1] == SIZE[1]
        assert frame.shape[0] > SIZE[0]  # the legend below
        assert np.abs(frame[2 : SIZE[0] - 2, [4, 60, 124, 132, 250]] - expected).max() <= 8
        assert np.median(frame[SIZE[0] + 2 :]) > 245
    assert sound_of(result.path) == sound_of(source)
    assert [p.name for p in tmp_path.iterdir() if "part" in p.name] == []


def test_sound_that_does_not_fit_is_encoded_anew(tmp_path):
    source = make_video(tmp_path / "in.mov", [halves(SIZE)] * 25, sound="pcm_mulaw")
    result = run(left_is_road, source, tmp_path / "out.mp4")
    assert "pcm_mulaw) does not fit into mp4: it is encoded anew as AAC" in result.notes[0]
    with av.open(str(result.path)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(sound) == pytest.approx(48000 * 24 / 25, abs=2048)
    spectrum = np.abs(np.fft.rfft(sound[4800:43200]))
    assert np.argmax(spectrum) * 48000 / 38400 == pytest.approx(440, abs=2)


def test_sound_of_a_transport_stream_begins_where_it_began(tmp_path):
    """Its clock does not start at 0."""
    source = make_video(tmp_path / "in.ts", [halves(SIZE)] * 25, sound="aac", options={"output_ts_offset": "5"})
    begin = frames_of(source)[0][0]
    assert begin >= 5
    result = run(left_is_road, source, tmp_path / "out.mp4")
    offsets = [sound_of(path)[0][0] - frames_of(path)[0][0] for path in (source, result.path)]
    assert float(offsets[0] - offsets[1]) == pytest.approx(0, abs=1e-3)
    assert float(frames_of(result.path)[0][0]) < 0.1


@pytest.mark.parametrize("ids", [(0, 1), (7, 300)], ids=["8 bit", "16 bit"])
def test_labels_survive_exactly(tmp_path, ids):
    size = (45, 61)
    table = LabelSet(names=("road", "sky"), ids=ids)
    answers = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (4, *size))
    left = iter(answers)
    source = make_video(tmp_path / "in.mp4", [halves(size)] * 4, sound="aac")
    out = tmp_path / "out.mkv"
    predict_video(lambda _: Predictions(labels=table, semantic=torch.from_numpy(next(left))), source, out, table,
                  VideoOptions(show="labels"))  # fmt: skip
    values = np.select([answers == 0, answers == 1], ids, 255)
    frames = frames_of(out, "gray" if ids[1] < 256 else "gray16le")
    assert np.array_equal(np.stack([frame for _, frame in frames]), values)
    assert [float(time) for time, _ in frames] == [0, 0.04, 0.08, 0.12]
    with av.open(str(out)) as container:
        assert not container.streams.audio
        tags = {key.lower(): value for key, value in container.metadata.items()}
    assert LabelSet.from_json(json.loads(tags["labels"])) == table


def test_odd_sizes_get_one_more_row_and_column(tmp_path):
    source = make_video(tmp_path / "in.mp4", [halves((45, 253))] * 2)
    seen = []
    result = run(lambda p: seen.append(p.shape) or left_is_road(p), source, tmp_path / "out.mp4")
    _, frame = frames_of(result.path)[0]
    assert seen == [(3, 45, 253)] * 2
    assert frame.shape[1] == 254
    assert frame.shape[0] % 2 == 0


@pytest.mark.parametrize(("turn", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_turned_videos_are_upright(tmp_path, turn, corner):
    """A bright block in the top left corner of what is stored; -90 = to be shown turned clockwise."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :32] = 250
    source = make_video(tmp_path / "in.mp4", [picture] * 2, turn=turn)
    seen = []
    run(lambda p: seen.append(p.clone()) or left_is_road(p), source, tmp_path / "out.mp4")
    assert seen[0].shape[1:] == ((64, 96) if turn == 180 else (96, 64))
    bright = [(r, c) for r in (0, -1) for c in (0, -1) if seen[0][0, r, c] > 200]
    assert bright == [corner]


def test_full_range_colours(tmp_path):
    """As webcams give them: MJPEG."""
    picture = halves(SIZE, (250, 250, 250), (5, 5, 5))
    with av.open(str(tmp_path / "in.avi"), "w") as container:
        stream = container.add_stream("mjpeg", 25, {"qmin": "1", "qmax": "1"})
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuvj420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    seen = []
    run(lambda p: seen.append(p.clone()) or left_is_road(p), tmp_path / "in.avi", tmp_path / "out.mp4")
    assert np.abs(seen[0].permute(1, 2, 0).numpy().astype(int) - picture).max() <= 4


def test_without_h264_the_older_codec_serves(tmp_path, monkeypatch):
    source = make_video(tmp_path / "in.ts", [halves(SIZE)] * 5)
    monkeypatch.setattr(av, "codecs_available", {"mpeg4"})
    frames = frames_of(run(left_is_road, source, tmp_path / "out.mp4").path)
    assert [float(time - frames[0][0]) for time, _ in frames] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16], abs=1e-4)


def flickering(size, frames):
    """Answers that are sky for certain, but road with 60 % in every third frame."""
    sky, road = torch.tensor([0.1, 0.9]), torch.tensor([0.6, 0.4])
    for k in range(frames):
        probabilities = (road if k % 3 == 2 else sky)[:, None, None].expand(2, *size)
        scores = ClassScores.of(probabilities)
        yield Predictions(labels=LABELS, semantic=scores.most_probable(), scores=scores)


def labels_seen(tmp_path, pictures, **options):
    source = make_video(tmp_path / "in.mp4", pictures)
    answers = flickering(pictures[0].shape[:2], len(pictures))
    result = run(lambda _: next(answers), source, tmp_path / "out.mkv", show="labels", **options)
    return [int(frame[0, 0]) for _, frame in frames_of(result.path, "gray")]


def test_smoothing_takes_the_flicker_away(tmp_path):
    pictures = [halves(SIZE)] * 9
    assert labels_seen(tmp_path, pictures) == [1, 1, 0] * 3
    assert labels_seen(tmp_path, pictures, smoothing=0.6) == [1] * 9


def test_a_cut_begins_smoothing_anew(tmp_path):
    """The third answer is believed, since its scene begins with it; 0.6 · 0.6 + 0.4 · 0.1 = 0.4 for road after it."""
    pictures = [halves(SIZE)] * 2 + [255 - halves(SIZE)] * 2
    assert labels_seen(tmp_path, pictures, smoothing=0.6) == [1, 1, 0, 1]


def test_the_average_is_that_of_its_formula():
    maps = torch.rand(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    smoothing, mean = Smoothing(0.7), maps[0].numpy()
    for k, probabilities in enumerate(maps):
        answer = smoothing(Predictions(labels=LABELS, scores=ClassScores.of(probabilities)), k == 0)
        mean = 0.7 * mean + 0.3 * probabilities.numpy() if k else mean
        assert np.allclose(answer.probabilities, mean, atol=1e-6)
        assert np.array_equal(answer.semantic, mean.argmax(0))
        assert np.allclose(answer.confidence, mean.max(0), atol=1e-6)


def test_what_moves_is_no_cut():
    cuts, rng = Cuts(), np.random.default_rng(0)
    street = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    shifted = np.roll(street, 3, axis=1)
    assert [cuts(p) for p in (street, shifted, 255 - street // 2, shifted)] == [True, False, True, True]


def test_every_second_frame_and_the_first_of_each_scene(tmp_path):
    pictures = [halves(SIZE)] * 5 + [255 - halves(SIZE)] * 3
    assert labels_seen(tmp_path, pictures, every=2) == [1, 1, 1, 1, 0, 1, 1, 1]


def test_smoothing_needs_probabilities(tmp_path):
    source = make_video(tmp_path / "in.mp4", [halves(SIZE)] * 3)
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(NoSuchAnswerError, match="leave smoothing out"):
        run(left_is_road, source, tmp_path / "out.mp4", smoothing=0.5)
    with pytest.raises(NoSuchAnswerError, match="does not know the classes"):
        run(lambda _: Predictions(labels=LABELS), source, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize(("options", "message"), [
    ({"show": "boxes"}, "overlay or labels can be shown, not boxes"),
    ({"smoothing": 1.0}, "from 0 to below 1, got 1.0"), ({"every": 0}, "got 0"),
])  # fmt: skip
def test_options_outside_their_ranges(unchecked, options, message):
    with pytest.raises(ValueError, match=message):
        VideoOptions(**options)


def bad_files(folder):
    rng = np.random.default_rng(0)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(rng.bytes(5000))
    (folder / "text.mp4").write_text("no video\n" * 400)
    Image.fromarray(halves(SIZE)).save(folder / "picture.png")
    Image.fromarray(halves(SIZE)).save(folder / "picture.jpg")
    with av.open(str(folder / "song.m4a"), "w", format="mp4") as container:
        track = container.add_stream("aac", 48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(48000)[None], "fltp", "mono")
        frame.sample_rate = 48000
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    whole = make_video(folder / "whole.mp4", [halves(SIZE)] * 30).read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")


@pytest.mark.parametrize(("name", "message"), [
    ("missing.mp4", "no such video file"), ("empty.mp4", "0 bytes"), ("noise.mp4", "noise.mp4"),
    ("text.mp4", "text.mp4"), ("picture.png", "picture or text and no video"),
    ("picture.jpg", "picture or text and no video"), ("song.m4a", "no video in this file, only audio"),
    ("half.mp4", "not a video that can be opened"), ("list.m3u8", "list.m3u8"), (".", "no such video file"),
])  # fmt: skip
def test_what_is_no_video_is_refused(tmp_path, name, message):
    bad_files(tmp_path)
    with pytest.raises(ValueError, match=message):
        run(left_is_road, tmp_path / name, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize(("content", "name"), [
    ("ffconcat version 1.0\nfile 'whole.mp4'\n", "holiday.mp4"),
    ("ffconcat version 1.0\nfile 'whole.mp4'\n", "holiday.ffconcat"),
    ("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:0.4,\nwhole.mp4\n#EXT-X-ENDLIST\n", "holiday.m3u8"),
    ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n", "holiday.sdp"),
])  # fmt: skip
def test_lists_of_other_files_are_not_followed(tmp_path, content, name):
    """A video of a stranger could bring any other video of this machine into its answer."""
    make_video(tmp_path / "whole.mp4", [halves(SIZE)] * 3)
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=r"not a video that can be opened: .* \(a list of other files"):
        run(left_is_road, tmp_path / name, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_a_camera_that_is_not_there(tmp_path):
    for name in ("camera:97", "/dev/video97"):
        with pytest.raises(ValueError, match="no camera at /dev/video97; found"):
            run(left_is_road, name, tmp_path / "out.mp4")


@pytest.mark.parametrize(("name", "options"), [("in.mkv", None), ("in.mp4", {"movflags": "faststart"}),
                                               ("in.avi", None)])  # fmt: skip
def test_a_video_that_ends_early(tmp_path, name, options):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(60)]
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    source = make_video(tmp_path / name, pictures, codec=codec, options=options, sound="ac3")
    assert run(left_is_road, source, tmp_path / "whole.mp4").ended == "complete"
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    result = run(left_is_road, source, tmp_path / "out.mp4")
    assert result.ended == "broken"
    assert any(words in result.problem for words in ("ends early", "cut off"))
    assert 15 < result.frames < 45
    assert len(frames_of(result.path)) == result.frames


def test_frames_that_cannot_be_decoded_are_left_out(tmp_path):
    """Each frame is a PNG; the fourth is none any more."""
    source = make_video(tmp_path / "in.mov", [halves(SIZE)] * 10, codec="png")
    before, *frames = source.read_bytes().split(b"\x89PNG")
    source.write_bytes(before + b"".join((b"\x89PNG" if k != 3 else b"none") + frame for k, frame in enumerate(frames)))
    result = run(left_is_road, source, tmp_path / "out.mp4")
    assert (result.frames, result.ended) == (9, "broken")
    assert "frames that cannot be decoded and are left out: 1" in result.problem
    assert [float(time) for time, _ in frames_of(result.path)] == pytest.approx([k / 25 for k in range(10) if k != 3])


def test_a_size_that_changes_on_the_way(tmp_path):
    """Two transport streams one after the other are one."""
    first = make_video(tmp_path / "a.ts", [halves(SIZE)] * 10)
    times = [512 * k for k in range(10, 20)]
    second = make_video(tmp_path / "b.ts", [halves((96, 128))] * 10, times)
    (tmp_path / "in.ts").write_bytes(first.read_bytes() + second.read_bytes())
    seen = []
    result = run(lambda p: seen.append(tuple(p.shape[1:])) or left_is_road(p), tmp_path / "in.ts", tmp_path / "out.mp4")
    assert set(seen) == {SIZE}
    assert result.frames == len(seen) == 20
    assert "10 frames have another size than the first: they are scaled to 256 x 48" in result.notes


def test_a_predictor_that_fails_loses_nothing(tmp_path):
    source = make_video(tmp_path / "in.mp4", [halves(SIZE)] * 30)
    seen = []

    def failing(picture):
        seen.append(1)
        if len(seen) == 12:
            raise RuntimeError("out of memory")
        return left_is_road(picture)

    with pytest.raises(RuntimeError, match="out of memory") as raised:
        run(failing, source, tmp_path / "out.mp4")
    assert raised.value.__notes__ == ["the 11 frames before it are kept"]
    assert len(frames_of(tmp_path / "out.mp4")) == 11


def test_an_interrupted_video_can_be_played(tmp_path):
    source = make_video(tmp_path / "in.mp4", [halves(SIZE)] * 30)

    def interrupt(done, total):
        if done == 5:
            raise KeyboardInterrupt

    result = run(left_is_road, source, tmp_path / "out.mp4", interrupt)
    assert (result.ended, result.frames) == ("interrupted", 5)
    assert len(frames_of(result.path)) == 5


def test_a_camera_goes_on_until_it_is_interrupted(tmp_path, monkeypatch):
    """FFmpeg's endless test picture in the place of a camera."""
    endless = lambda _: av.open("testsrc=size=64x48:rate=25", format="lavfi")  # noqa: E731
    monkeypatch.setattr(video_reading, "_opened", endless)
    counts = []

    def enough(done, total):
        counts.append((done, total))
        if done == 40:
            raise KeyboardInterrupt

    result = run(left_is_road, "camera:0", tmp_path / "out.mp4", enough)
    assert (result.ended, result.frames) == ("complete", 40)
    assert counts[-1] == (40, 40)


def test_the_answer_never_replaces_its_video(tmp_path):
    source = make_video(tmp_path / "in.mp4", [halves(SIZE)] * 2)
    before = source.read_bytes()
    with pytest.raises(ValueError, match="would replace the video"):
        run(left_is_road, source, source)
    with pytest.raises(ValueError, match="is written as .mkv, not as .mp4"):
        run(left_is_road, source, tmp_path / "out.mp4", show="labels")
    assert source.read_bytes() == before


def test_without_pyav(monkeypatch):
    for name in [n for n in sys.modules if n.startswith("smalti.predict.video")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    from smalti.predict.video_options import is_video as still_there

    assert still_there("x.mp4")
    with pytest.raises(ValueError, match=r'pip install "smalti\[video\]"'):
        import smalti.predict.video  # noqa: F401


def test_names():
    assert all(is_video(s) for s in ("a.mp4", "b.MOV", "camera:0", "/dev/video2", "rtsp://h/live", "https://h/a.m3u8"))
    assert not any(is_video(s) for s in ("a.png", "folder", "C:/a.jpg"))
    assert answer_name("trips/holiday.1.mov", "overlay") == "holiday.1_overlay.mp4"
    assert answer_name("camera:0", "labels") == "camera0_labels.mkv"
    assert answer_name("/dev/video2", "overlay") == "video2_overlay.mp4"
    assert answer_name("rtsp://me:secret@host/", "overlay") == "stream_overlay.mp4"


def test_work_is_a_bounded_number_of_steps_ahead():
    made, most = [], []

    def counting():
        for k in range(50):
            made.append(k)
            yield k

    for k in ahead(counting(), 3):
        most.append(len(made) - k)
    assert len(most) == 50
    assert max(most) <= 3 + 2  # in the queue, in the thread's hand, and ours


def test_leaving_stops_the_thread_and_closes_its_work():
    closed = []

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.append(threading.current_thread().name)

    items = ahead(endless(), 2)
    assert next(items) == 1
    items.close()
    assert closed == ["ahead"]
