"""Text in any script: for each text a font that has its glyphs, and several fonts where no single one has them all.

ASCII is drawn with Pillow's own font. Other scripts take DejaVu Sans (part of matplotlib), the Noto fonts of two
packages, then the fonts of the machine.
"""

import functools
import importlib.util
import logging
import os
import sys
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import ImageDraw, ImageFont, features

from smalti.labels import Color

log = logging.getLogger("smalti")
Font = ImageFont.FreeTypeFont
PACKAGED = (
    ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    ("noto_cjk_sans_otc", "*.ttc"),
    ("manimgx_fonts", "NotoSans*.ttf"),
    ("manimgx_fonts", "NotoEmoji*.ttf"),
)
"""Packages that carry fonts, and which of their files are used, in the order of preference."""
LATIN = "a"
"""A font without it has blanks and digits that do not suit other text: emoji are wide."""
FONT_ENDINGS = {".ttf", ".otf", ".ttc", ".otc"}
JOINED_OR_RIGHT_TO_LEFT = {"AL", "R", "NSM"}
"""Bidirectional classes of Arabic and Hebrew letters and of marks that belong to the letter before."""


@dataclass(frozen=True)
class TextLine:
    """One line of text at one font size, ready to be measured and drawn; made by `text_line`."""

    runs: tuple[tuple[str, Font], ...]

    @property
    def length(self) -> float:
        """Width in pixels, as far as the next letter would begin."""
        return sum(font.getlength(text, direction=self._direction) for text, font in self.runs)

    @property
    def _direction(self) -> str | None:
        """Several runs stand from left to right, each with its own letters' direction; one decides for itself."""
        return "ltr" if len(self.runs) > 1 and features.check("raqm") else None

    def box(self) -> tuple[float, float, float, float]:
        """Bounds (left, top, right, bottom) of the ink when drawn at (0, 0)."""
        boxes = []
        for text, font, anchor, x, y in self._placed("la"):
            left, top, right, bottom = font.getbbox(text, anchor=anchor, direction=self._direction)
            boxes.append((x + left, y + top, x + right, y + bottom))
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return min(lefts), min(tops), max(rights), max(bottoms)

    def draw(self, draw: ImageDraw.ImageDraw, place: tuple[float, float], fill: Color, anchor: str = "la") -> None:
        """Draws the line at `place`; `anchor` is Pillow's, "la" or "lm"."""
        for text, font, own_anchor, x, y in self._placed(anchor):
            start = (place[0] + x, place[1] + y)
            draw.text(start, text, fill=fill, font=font, anchor=own_anchor, direction=self._direction)

    def _placed(self, anchor: str) -> Iterator[tuple[str, Font, str, float, float]]:
        """Each run with its anchor and place. Several fonts share one baseline; one font keeps the given anchor."""
        x = y = 0.0
        if len(self.runs) > 1:
            ascent, descent = (max(n) for n in zip(*(font.getmetrics() for _, font in self.runs), strict=True))
            y = ascent if anchor == "la" else (ascent - descent) / 2
            anchor = "ls"
        for text, font in self.runs:
            yield text, font, anchor, x, y
            x += font.getlength(text, direction=self._direction)


@functools.lru_cache(maxsize=1024)
def text_line(text: str, size: int) -> TextLine:
    """The text with the fonts that draw it.

    One font where one has all glyphs. Characters that no font has are drawn as their code (U+9053 as `u9053`
    after a backslash), and a warning names them once.
    """
    text = drawable(text)
    if all(char.isascii() or _needs_no_glyph(char) for char in text):
        return TextLine(((text.encode("ascii", "ignore").decode(), _default(size)),))
    _check_shaping(text)
    whole = next((path for path in fonts_for(text) if _has_all(path, text + LATIN)), None)
    runs = [(text, whole)] if whole else list(_split(text))
    return TextLine(tuple((part, _load(path, size)) for part, path in runs))


def drawable(text: str) -> str:
    """The text without control characters, and with the code of each character that no font has in its place."""
    text = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    if text.isascii():
        return text
    needed = dict.fromkeys(char for char in text if not char.isascii() and not _needs_no_glyph(char))
    missing = "".join(char for char in needed if not _font_of(char))
    _warn_missing(missing)
    return text.translate({ord(char): char.encode("ascii", "backslashreplace").decode() for char in missing})


def fonts_for(*texts: str) -> list[Path]:
    """The files of the fonts that draw the texts, the preferred first; no more than are needed."""
    chosen = {_font_of(char) for char in "".join(texts) if not _needs_no_glyph(char)} - {None}
    fonts: list[Path] = []
    for path in _candidates():
        if len(fonts) == len(chosen):
            break
        fonts += [path] if path in chosen else []
    return fonts


@functools.lru_cache(maxsize=4096)
def _font_of(char: str) -> Path | None:
    """The preferred font that has this character; None = no font has it."""
    return next((path for path in _candidates() if ord(char) in _characters(path)), None)


def _candidates() -> Iterator[Path]:
    """Packaged fonts, then the machine's: those are searched only if somebody goes on asking."""
    yield from _packaged()
    yield from _installed()


def _needs_no_glyph(char: str) -> bool:
    """Joiners, direction marks and variation selectors shape their neighbours and have no ink of their own."""
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f"


def _has_all(path: Path, text: str) -> bool:
    known = _characters(path)
    return all(ord(char) in known or _needs_no_glyph(char) for char in text)


def _split(text: str) -> Iterator[tuple[str, Path]]:
    """Runs of one font each; marks and joiners stay with their letter, blanks and digits with fonts that have Latin."""
    run = ""
    font: Path | None = None
    for char in text:
        kept = _needs_no_glyph(char) or unicodedata.category(char).startswith("M")
        if font and unicodedata.bidirectional(char) not in ("L", "R", "AL"):
            kept = kept or _has_all(font, LATIN)
        own = font if font and kept and _has_all(font, char) else _font_of(char)
        if own is None:  # what shapes its neighbours, at the start; all else has been replaced
            continue
        if font and font != own:
            yield run, font
            run = ""
        run, font = run + char, own
    if font:
        yield run, font


@functools.cache
def _packaged() -> tuple[Path, ...]:
    """Fonts in installed packages, found without importing them."""
    files = []
    for package, pattern in PACKAGED:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            files += sorted(Path(folder).glob(pattern))
    return tuple(files)


@functools.cache
def _installed() -> tuple[Path, ...]:
    """Fonts in the machine's font folders, those of many scripts first."""
    files = [path for folder in font_folders() for path in folder.rglob("*") if path.suffix.lower() in FONT_ENDINGS]
    return tuple(sorted(files, key=lambda path: (not path.name.startswith(("Noto", "Unifont", "Arial Uni")), path)))


def font_folders() -> list[Path]:
    """The usual font folders of Linux, macOS or Windows."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111  Path.home() raises where there is none
    if sys.platform == "win32":
        return [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", home / "AppData/Local/Microsoft/Windows/Fonts"]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = [home / ".local/share/fonts", home / ".fonts"]
    return [*own, *(Path(folder) / "fonts" for folder in shared.split(":") if folder)]


@functools.cache
def _characters(path: Path) -> frozenset[int]:
    """Code points that the font has glyphs for; empty if the file cannot be read or Pillow cannot draw with it."""
    try:
        ImageFont.truetype(path, 12)
        with TTFont(path, fontNumber=0, lazy=True) as font:
            return frozenset(font.getBestCmap() or ())
    except Exception:  # whatever a broken font file raises: the next font is tried
        return frozenset()


@functools.lru_cache(maxsize=64)
def _load(path: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _default(size: int) -> Font:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType has one size only"
    return font


_warned: set[str] = set()
_lock = threading.Lock()  # answers are drawn by several threads


def _warn_once(topic: str, message: str) -> None:
    with _lock:
        if topic in _warned:
            return
        _warned.add(topic)
    log.warning(message)


def _warn_missing(characters: str) -> None:
    """One warning for each script, by the first word of a character's Unicode name."""
    by_script: dict[str, str] = {}
    for char in characters:
        script = unicodedata.name(char, "UNKNOWN").split()[0]
        by_script[script] = by_script.get(script, "") + char
    for script, missing in by_script.items():
        shown = missing.encode("utf-8", "backslashreplace").decode()
        code = missing[0].encode("ascii", "backslashreplace").decode()
        _warn_once(
            script,
            f"no font on this machine draws {shown}: drawings show codes such as {code} instead; install a font for "
            "them, e.g. one of the Noto family (Debian and Ubuntu: apt install fonts-noto)",
        )


def _check_shaping(text: str) -> None:
    if not features.check("raqm") and any(unicodedata.bidirectional(char) in JOINED_OR_RIGHT_TO_LEFT for char in text):
        _warn_once(
            "raqm",
            "this Pillow has no Raqm, so that joined and right-to-left letters (Arabic, Hebrew) are drawn one by one "
            "from left to right; Pillow's own wheels have it: pip install --force-reinstall pillow",
        )
