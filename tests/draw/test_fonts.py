"""Names in any script, in every kind of drawing."""

import logging
import shutil

import numpy as np
import pytest
import torch
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont, features

from smalti.draw import fonts
from smalti.draw.boxes import draw_boxes
from smalti.draw.fonts import drawable, fonts_for, text_line
from smalti.draw.heat import with_scale
from smalti.draw.legend import with_legend
from smalti.evaluation.plots import Difference, plot_confusion, plot_differences
from smalti.labels import LabelSet

PAIRS = {
    "sharp s": ("Straße", "Straẞe"), "Cyrillic": ("дорога", "здание"), "Greek": ("δρόμος", "σπίτια"),
    "Chinese": ("道路", "天空"), "Japanese": ("みち", "そら"), "Korean": ("도로", "하늘"), "Arabic": ("طريق", "سماء"),
    "Hebrew": ("דרך", "שמש"), "Devanagari": ("सड़क", "भवना"), "Thai": ("ถนน", "รถจ"), "emoji": ("🚗", "🌳"),
    "mixed": ("road 道路", "road 天空"), "no common font": ("道路 طريق", "天空 طريق"),
}  # fmt: skip
NAMES = tuple(name for pair in PAIRS.values() for name in pair)
GREY = np.full((40, 300, 3), 90, np.uint8)
BLACK = (0, 0, 0)


@pytest.fixture
def fresh(monkeypatch):
    """Fonts as in a new process, before and after."""
    caches = (fonts.text_line, fonts._font_of, fonts._packaged, fonts._installed)

    def forget():
        for cache in caches:
            cache.cache_clear()
        monkeypatch.setattr(fonts, "_warned", set())

    forget()
    yield forget
    for cache in caches:
        cache.cache_clear()


def drawings(name):
    labels = LabelSet(names=(name,), colors=((200, 0, 0),))
    counts = torch.tensor([[5, 0]])
    return {
        "legend": with_legend(GREY, [(f"{name}  50 %", BLACK)]).tobytes(),
        "boxes": draw_boxes(GREY, np.array([[10.0, 20.0, 100.0, 38.0]]), [0], labels).tobytes(),
        "scale": with_scale(GREY, name).tobytes(),
        "confusion": plot_confusion(counts, labels),
        "differences": plot_differences({"mIoU": [Difference(name=name, mean=1.0)]}),
    }


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_unlike_names_look_unlike(pair):
    """Boxes in place of glyphs look the same for all names of one length; matplotlib's warning is an error here."""
    one, other = map(drawings, pair)
    assert [kind for kind in one if one[kind] == other[kind]] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_letter_is_drawn_with_a_font_that_has_it(name):
    """Oracle: the character tables of the fonts, read by fontTools."""
    line = text_line(f"{name}  7 %", 20)
    assert "".join(text for text, _ in line.runs) == f"{name}  7 %"
    for text, font in line.runs:
        with TTFont(font.path, fontNumber=0) as table:
            assert {ord(char) for char in text} <= table.getBestCmap().keys()


def test_ascii_is_drawn_as_ever():
    """Oracle: Pillow's own font, as before there were others."""
    for text in ("road  34 %", "car 90 %", "a $b_c^"):
        expected, drawn = (Image.new("RGB", (200, 40), (255, 255, 255)) for _ in range(2))
        font = ImageFont.load_default(size=17)
        ImageDraw.Draw(expected).text((3.5, 20), text, fill=BLACK, font=font, anchor="lm")
        line = text_line(text, 17)
        line.draw(ImageDraw.Draw(drawn), (3.5, 20), BLACK, anchor="lm")
        assert drawn.tobytes() == expected.tobytes()
        assert line.length == font.getlength(text)
        assert line.box() == ImageDraw.Draw(drawn).textbbox((0, 0), text, font=font)
    assert fonts_for("road") == fonts_for("дорога")  # matplotlib's default


@pytest.mark.parametrize("name", ["道路 طريق", "क्ष 道 Я", "🚗 car"])
def test_the_box_of_a_line_of_several_fonts_holds_its_ink(name):
    line = text_line(name, 30)
    assert len(line.runs) > 1
    image = Image.new("RGB", (400, 120), (255, 255, 255))
    line.draw(ImageDraw.Draw(image), (50, 40), BLACK)
    rows, columns = np.nonzero((np.asarray(image) < 255).any(-1))
    left, top, right, bottom = line.box()
    assert 50 + left - 1 <= columns.min() <= columns.max() <= 50 + right + 1
    assert 40 + top - 1 <= rows.min() <= rows.max() <= 40 + bottom + 1
    assert columns.max() <= 50 + line.length + 1


def test_arabic_letters_are_joined():
    assert features.check("raqm")
    separate = sum(text_line(letter, 40).length for letter in "طريق")
    assert text_line("طريق", 40).length < 0.9 * separate


def test_without_raqm_it_is_said_once(fresh, monkeypatch, caplog):
    monkeypatch.setattr(fonts.features, "check", lambda feature: False)
    with caplog.at_level(logging.WARNING, "smalti"):
        text_line("طريق", 20)
        text_line("סוס", 20)
    assert ["no Raqm" in record.getMessage() for record in caplog.records] == [True]


def test_what_no_font_has_is_said_once_and_drawn_as_code(fresh, monkeypatch, caplog):
    monkeypatch.setattr(fonts, "PACKAGED", fonts.PACKAGED[:1])
    monkeypatch.setattr(fonts, "font_folders", lambda: [])
    with caplog.at_level(logging.WARNING, "smalti"):
        assert drawable("road 道路") == r"road \u9053\u8def"
        for _ in range(2):
            drawings("道 a")
    assert len(caplog.records) == 1
    assert "no font on this machine draws 道路" in caplog.text
    assert "install" in caplog.text


def test_control_characters_and_lone_surrogates_stop_no_drawing():
    assert drawable("a\nb\x00c") == "a b c"
    assert drawable("a\udc80") == r"a\udc80"
    drawings("a\u200d")
    drawings("\u200d道")


def test_fonts_of_the_machine_are_found(fresh, monkeypatch, tmp_path):
    (font,) = fonts_for("道")
    fresh()
    (tmp_path / "deep").mkdir()
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    shutil.copy(font, tmp_path / "deep" / "own.TTC")
    monkeypatch.setattr(fonts, "PACKAGED", fonts.PACKAGED[:1])
    monkeypatch.setattr(fonts, "font_folders", lambda: [tmp_path, tmp_path / "missing"])
    assert fonts_for("道") == [tmp_path / "deep" / "own.TTC"]
    assert drawable("道路") == "道路"


def test_font_folders_of_each_system(monkeypatch):
    for platform, part in (("linux", "share/fonts"), ("darwin", "Library/Fonts"), ("win32", "Fonts")):
        monkeypatch.setattr(fonts.sys, "platform", platform)
        assert any(part in folder.as_posix() for folder in fonts.font_folders())
