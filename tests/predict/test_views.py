import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from smalti.containers import ClassScores, Instances, Predictions
from smalti.labels import LabelSet
from smalti.predict.views import Views, predict_views

LABELS = LabelSet.of(3)


def by_colour(picture):
    """Each pixel's class probabilities are its colours' shares; nothing but the pixel itself counts."""
    colours = picture.float() + 1
    scores = ClassScores.of(colours / colours.sum(0))
    semantic = scores.most_probable()
    box = torch.tensor([[0.0, 0.0, picture.shape[2], picture.shape[1]]])
    return Predictions(
        labels=LABELS,
        semantic=semantic,
        scores=scores,
        edges=picture[0].float() / 255,
        coarse=semantic,
        instances=Instances(boxes=box, labels=torch.tensor([1])),
    )


def by_column(picture):
    """Knows where it looks: the probability of class 0 falls from left to right."""
    height, width = picture.shape[1:]
    first = torch.linspace(1, 0, width).expand(height, width)
    scores = ClassScores.of(torch.stack([first, 1 - first, torch.zeros(height, width)]))
    return Predictions(labels=LABELS, semantic=scores.most_probable(), scores=scores)


@pytest.fixture
def picture():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 37, 53), dtype=np.uint8))


@pytest.mark.parametrize(("text", "views"), [
    ("flip", Views(flip=True)),
    ("1", Views()),
    ("0.75, 1,1.25,flip", Views(scales=(0.75, 1.0, 1.25), flip=True)),
])  # fmt: skip
def test_parse(text, views):
    assert Views.parse(text) == views


@pytest.mark.parametrize(("text", "message"), [
    ("", 'like "0.75,1,1.25,flip", got ""'),
    ("flop", 'got "flop"'),
    ("1,,2", 'got "1,,2"'),
    ("0.5", "add the scale 1"),
    ("1,1", "counts once"),
    ("1,0", "from 0.1 to 10, got 0"),
    ("1,nan", "got nan"),
    ("flip,flip", "said once"),
])  # fmt: skip
def test_what_are_no_views(text, message):
    with pytest.raises(ValueError, match=message):
        Views.parse(text)


def test_one_view_is_no_views(picture):
    answer = by_colour(picture)
    assert predict_views(lambda _: answer, picture, Views()) is answer


def test_what_looks_at_single_pixels_does_not_mind_being_mirrored(picture):
    plain, views = by_colour(picture), predict_views(by_colour, picture, Views(flip=True))
    torch.testing.assert_close(views.probabilities, plain.probabilities)
    assert torch.equal(views.edges, plain.edges)
    assert torch.equal(views.semantic, plain.semantic)
    assert torch.equal(views.confidence, views.probabilities.amax(0))


def test_mirrored_answers_are_mirrored_back(picture):
    # Falling from 1 to 0 and, seen in the mirror, rising from 0 to 1: one half everywhere.
    answer = predict_views(by_column, picture, Views(flip=True))
    torch.testing.assert_close(answer.probabilities[:2], torch.full((2, 37, 53), 0.5))


def bilinear(maps, size):
    """By SciPy: pixel centres at half coordinates, the border's value beyond it."""
    rows, columns = (
        np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    where = np.meshgrid(rows, columns, indexing="ij")
    return np.stack([map_coordinates(m, where, order=1) for m in maps])


def test_scales_by_hand(picture):
    # A picture of one colour by columns, so that resizing the picture itself rounds nothing of note.
    size = tuple(picture.shape[-2:])
    answer = predict_views(by_column, picture, Views(scales=(0.5, 1.0, 2.0), flip=True))
    total = np.zeros((3, *size))
    for scale in (0.5, 1.0, 2.0):
        width, height = round(53 * scale), round(37 * scale)
        first = np.broadcast_to(np.linspace(1, 0, width), (height, width))
        maps = np.stack([first, 1 - first, np.zeros((height, width))])
        total += bilinear(maps, size) + bilinear(maps[..., ::-1], size)
    np.testing.assert_allclose(answer.probabilities.numpy(), total / 6, atol=1e-6)


def test_objects_are_those_of_the_picture_as_it_is(picture):
    answer = predict_views(by_colour, picture, Views(scales=(2.0, 1.0), flip=True))
    assert answer.instances.boxes.tolist() == [[0, 0, 53, 37]]
    assert torch.equal(answer.coarse, by_colour(picture).coarse)


def test_the_networks_answer_is_not_written_into(picture):
    answer = by_colour(picture)
    before = answer.probabilities.clone()
    predict_views(lambda _: answer, picture, Views(flip=True))
    assert torch.equal(answer.probabilities, before)


def test_without_maps_there_is_nothing_to_average(picture):
    boxes = Predictions(labels=LABELS, instances=by_colour(picture).instances)
    answer = predict_views(lambda _: boxes, picture, Views(flip=True))
    assert answer == boxes


def test_one_pixel():
    answer = predict_views(by_colour, torch.full((3, 1, 1), 7, dtype=torch.uint8), Views.parse("0.5,1,2,flip"))
    assert answer.probabilities.shape == (3, 1, 1)
    torch.testing.assert_close(answer.probabilities, torch.full((3, 1, 1), 1 / 3))
