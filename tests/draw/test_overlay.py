import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from smalti.draw import legend
from smalti.draw.image_files import save_drawing
from smalti.draw.legend import legend_entries, with_legend
from smalti.draw.overlay import WRONG, colorize, error_map, overlay, save_index_png
from smalti.labels import CAMVID, LabelSet

TWO = LabelSet(names=("left", "right"), colors=((255, 0, 0), (0, 0, 255)))


@pytest.fixture
def halves():
    labels = np.zeros((40, 60), np.uint8)
    labels[:, 30:] = 1
    labels[0, 0] = 255
    return np.full((40, 60, 3), 100, np.uint8), labels


def test_colors(halves):
    colored = colorize(halves[1], TWO)
    assert tuple(colored[5, 5]) == (255, 0, 0)
    assert tuple(colored[5, 50]) == (0, 0, 255)
    assert tuple(colored[0, 0]) == (0, 0, 0)


def test_overlay_tints_by_the_opacity_and_marks_borders(halves):
    picture, labels = halves
    drawn = overlay(picture, labels, TWO, 0.5)
    assert tuple(drawn[20, 5]) == (178, 50, 50)  # halfway from 100 to (255, 0, 0)
    assert tuple(drawn[20, 29]) == (89, 25, 25)  # the border: half as bright
    assert tuple(overlay(picture, np.full_like(labels, 255), TWO)[20, 5]) == (100, 100, 100)


@pytest.mark.parametrize("opacity", [0.5, 0.65])
def test_overlays_are_mixed_as_in_floats(opacity):
    """Oracle: the mixture in float64, rounded at the end; at most 1 away."""
    random = np.random.default_rng(0)
    picture, labels = random.integers(0, 256, (40, 60, 3), dtype=np.uint8), np.zeros((40, 60), np.uint8)
    for color in ((255, 255, 255), (0, 0, 0), (1, 77, 203)):
        table = LabelSet(names=("a",), colors=(color,))
        wanted = picture * (1 - opacity) + np.array(color) * opacity
        drawn = overlay(np.asfortranarray(picture), labels, table, opacity)
        assert np.abs(drawn - wanted).max() <= 1 + 1e-5


def test_drawings_are_saved_with_their_colours(tmp_path):
    """Also where colours meet: text and thin lines stay sharp."""
    drawing = np.full((32, 48, 3), (250, 240, 20), np.uint8)
    drawing[:, 9:10] = (200, 30, 40)
    save_drawing(drawing, tmp_path / "d.jpg")
    found = np.array(Image.open(tmp_path / "d.jpg")).astype(int)
    assert np.abs(found - drawing).max() <= 25


@pytest.mark.parametrize("size", [(3, 70_000), (140_000, 1)])
def test_drawings_too_long_for_their_format_are_made_smaller(size, tmp_path):
    save_drawing(np.zeros((*size, 3), np.uint8), tmp_path / "d.jpg")
    with Image.open(tmp_path / "d.jpg") as image:
        assert max(image.size) == 65_500
        assert min(image.size) >= 1


def test_errors_are_red_and_uncounted_pixels_black(halves):
    picture, truth = halves
    prediction = np.zeros_like(truth)
    drawn = error_map(picture, truth, prediction)
    assert tuple(drawn[20, 50]) == WRONG
    assert tuple(drawn[0, 0]) == (0, 0, 0)
    assert drawn[20, 5, 0] == drawn[20, 5, 1] == drawn[20, 5, 2] > 120


def test_index_pngs_hold_the_files_own_ids(tmp_path):
    table = LabelSet(names=("a", "b"), colors=((1, 2, 3), (4, 5, 6)), ids=(7, 40), ignored_ids=(11, 255))
    save_index_png(np.array([[0, 1, 255]], np.uint8), table, tmp_path / "m.png")
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "P"
        assert np.array(image).tolist() == [[7, 40, 11]]
        assert np.array(image.convert("RGB"))[0, 1].tolist() == [4, 5, 6]


def test_legend_names_what_occurs_the_largest_first():
    labels = np.zeros((10, 100), np.uint8)
    labels[:, 60:] = 3
    labels[0, 99] = 8
    labels[:, :5] = 255
    texts = [text for text, _ in legend_entries(labels, CAMVID)]
    assert texts == ["sky  55 %", "road  40 %", "car  < 1 %", "no class  5 %"]


@pytest.mark.parametrize("size", [(1, 1), (37, 53), (90, 1200), (700, 300)])
@pytest.mark.parametrize("classes", [2, 11, 150])
def test_legends_never_cut_a_text(size, classes, monkeypatch):
    """Oracle: each text drawn by Pillow on a wider canvas, which has no ink beyond the legend's width."""
    names = tuple(f"a rather long class name {k}" for k in range(classes))
    labels = (np.arange(size[0] * size[1]) % classes).astype(np.uint8).reshape(size)
    drawn = {}
    original = legend._entry

    def spy(text, color, font_size):
        entry = original(text, color, font_size)
        wide = Image.new("RGB", (2000, entry.shape[0] + 50), (255, 255, 255))
        draw, font = ImageDraw.Draw(wide), ImageFont.load_default(size=font_size)
        draw.rectangle((0, 25, font_size, 25 + font_size), fill=color, outline=(120, 120, 120))
        draw.text((1.5 * font_size, 25 + font_size / 2), text, fill=legend.TEXT, font=font, anchor="lm")
        rows, columns = np.nonzero((np.asarray(wide) != 255).any(-1))
        assert rows.min() >= 25
        assert rows.max() < 25 + entry.shape[0]
        assert columns.max() < entry.shape[1]
        drawn[text] = np.asarray(wide)[25 : 25 + entry.shape[0], : columns.max() + 1]
        return entry

    monkeypatch.setattr(legend, "_entry", spy)
    out = with_legend(np.zeros((*size, 3), np.uint8), legend_entries(labels, LabelSet(names=names)))
    below = out[size[0] :]
    assert len(drawn) == min(classes, labels.size)
    for entry in list(drawn.values())[:20]:
        found = cv2.matchTemplate(255 - below, 255 - entry, cv2.TM_SQDIFF)
        assert found.min() < 1000  # rounding of the search; a pixel of cut ink is 50,000


def test_wide_ids_are_written_with_16_bits(tmp_path):
    labels = LabelSet(names=("a", "b"), ids=(7, 3000))
    save_index_png(np.array([[0, 1, 255]], np.uint8), labels, tmp_path / "wide.png")
    with Image.open(tmp_path / "wide.png") as image:
        assert np.asarray(image).tolist() == [[7, 3000, 255]]
