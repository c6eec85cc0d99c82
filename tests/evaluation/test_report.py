import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from smalti.evaluation.errors import best_and_worst, score_picture
from smalti.evaluation.plots import plot_confusion, plot_history
from smalti.evaluation.report import Example, ReportContent, frequent_confusions, write_report
from smalti.labels import CAMVID, LabelSet
from smalti.metrics.confusion import ConfusionMatrix
from smalti.metrics.semantic import semantic_metrics

NAN = float("nan")
ROW = {"epoch": 1, "train_loss": 1.0, "validation_loss": NAN, "pixel_accuracy": NAN, "miou": NAN, "learning_rate": 0.1,
       "seconds": 2.0}  # fmt: skip


def png_size(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.size


@pytest.mark.parametrize("rows", [1, 2, 50])
def test_history_is_drawn(rows):
    assert png_size(plot_history([{**ROW, "epoch": k, "miou": k / 99} for k in range(1, rows + 1)]))[0] > 800


@pytest.mark.parametrize("classes", [1, 11, 40])
def test_confusion_is_drawn(classes):
    counts = torch.randint(0, 99, (classes, classes + 1))
    width, height = png_size(plot_confusion(counts, LabelSet.of(classes)))
    assert width > 400
    assert height > 400


def test_confusions_in_words():
    counts = torch.tensor([[90, 10, 0], [1, 0, 99]])
    assert frequent_confusions(counts, LabelSet(names=("road", "sky")))[:3] == [
        "99.0 % of sky is taken for nothing",
        "10.0 % of road is taken for sky",
        "1.0 % of sky is taken for road",
    ]


def test_scores_and_their_order():
    truth = np.array([[0, 0, 1, 1, 255]], np.uint8)
    score = score_picture("a", np.array([[0, 1, 1, 1, 0]], np.uint8), truth, 3)
    assert score.pixel_accuracy == 0.75
    assert score.miou == pytest.approx((1 / 2 + 2 / 3) / 2)
    nothing = score_picture("b", truth[:, -1:], truth[:, -1:], 3)
    assert nothing.miou is None
    many = [score_picture(str(k), np.full((1, 4), 0, np.uint8), (np.arange(4)[None] < k).astype(np.uint8), 2)
            for k in range(5)]  # fmt: skip
    best, worst = best_and_worst([*many, nothing], 2)
    assert [s.name for s in best] == ["0", "1"]
    assert worst[0].name in ("3", "4")
    assert not {s.name for s in best} & {s.name for s in worst}
    assert best_and_worst([score], 3) == ((score,), ())
    assert best_and_worst([], 3) == ((), ())


@pytest.fixture
def content():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 11, (60, 80)).astype(np.uint8)
    truth[:3] = 255
    prediction = np.where(generator.random(truth.shape) < 0.8, truth, 3).astype(np.uint8)
    prediction[truth == 255] = 0
    matrix = ConfusionMatrix(11)
    matrix.update(prediction, truth)
    example = Example(name="<b>street & co</b>", score=0.5, picture=np.zeros((60, 80, 3), np.uint8), truth=truth,
                      prediction=prediction)  # fmt: skip
    return ReportContent(
        title="A <script>alert(1)</script> title",
        metrics=semantic_metrics(matrix.counts, CAMVID),
        protocol={"data": "camvid", "classes": list(CAMVID.names), "version": "0"},
        labels=CAMVID,
        counts=matrix.counts,
        history=[ROW],
        best=(example,),
        worst=(example,),
        reported=(("seconds per step", "1.0", "13.48"),),
    )


def test_the_report_is_one_file_that_needs_nothing_else(content, tmp_path):
    write_report(tmp_path / "report.html", content)
    text = (tmp_path / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    assert "http://" not in text
    assert "https://" not in text
    assert "<script" not in text
    assert "&lt;b&gt;street &amp; co" in text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    for data in re.findall(r'src="data:image/(?:png|webp);base64,([^"]+)"', text):
        import base64

        assert min(png_size(base64.b64decode(data))) > 10
    assert f"{content.metrics['semantic.miou']:.3f}" in text
    assert "13.48" in text


def test_a_report_without_history_examples_or_some_classes(content, tmp_path):
    import dataclasses

    counts = content.counts.clone()
    counts[5] = 0
    counts[:, 5] = 0
    metrics = semantic_metrics(counts, CAMVID)
    write_report(
        tmp_path / "r.html",
        dataclasses.replace(content, counts=counts, metrics=metrics, history=(), best=(), worst=(), reported=()),
    )
    text = (tmp_path / "r.html").read_text()
    assert "Left out of the means" in text
    assert "absent" in text
    assert "Best pictures" not in text
