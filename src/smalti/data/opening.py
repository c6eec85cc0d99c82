"""Opening image files with Pillow: only formats that it decodes by itself, and no limit on their size."""

import io
import threading

from PIL import Image, UnidentifiedImageError

from smalti.data.webp import check_canvas

FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "WEBP", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
"""What Pillow decodes by itself, whatever a file is called. Of others some start programs (PostScript: Ghostscript)."""
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How such files begin, the last two with 64-bit places."""
OpenedFile = io.BytesIO | io.BufferedReader
_opening = threading.Lock()


def open_image(file: OpenedFile) -> Image.Image:
    """Reads the header without Pillow's own limit, which large but honest images exceed; callers check the size.

    Formats that Pillow was built without are left out.

    Raises:
        UnidentifiedImageError: If it is of no known format; says why.
        Exception: Whatever a broken header makes Pillow raise.
    """
    check_canvas(file)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    with _opening:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        except UnidentifiedImageError:
            file.seek(0)
            tiff = file.read(4) in TIFF_MAGIC
            reason = "a TIFF, but cut off or not grey or RGB of 8 or 16 bits" if tiff else "no known picture format"
            raise UnidentifiedImageError(reason) from None
        finally:
            Image.MAX_IMAGE_PIXELS = limit
