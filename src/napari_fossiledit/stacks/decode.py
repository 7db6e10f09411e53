"""Headers and pixels of single image files: PNG, JPEG and TIFF, recognised by their content."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.pixels import (
    Format,
    Pixels,
    check_dtype,
    oriented,
    oriented_size,
)
from napari_fossiledit.stacks.section import named

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile
    from tifffile import TiffFile, TiffPage

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")

#: What Pillow, imagecodecs and tifffile raise where a file is broken.
DECODER_ERRORS = (
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

_ORIENTATION = 274
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Modes of Pillow that hold what a stack can, and whether they are coloured.
_RGB_OF_MODE = {
    "1": False,
    "L": False,
    "LA": False,
    "I;16": False,
    "I;16B": False,
    "P": True,
    "PA": True,
    "RGB": True,
    "RGBA": True,
}
# Photometric interpretations of TIFF, and whether a pixel has three numbers.
_RGB_OF_PHOTOMETRIC = {
    "MINISBLACK": False,
    "MINISWHITE": False,
    "PALETTE": False,
    "RGB": True,
    "YCBCR": True,
}


@dataclass(frozen=True)
class Header:
    """Size, colours and resolution that an image file states.

    Attributes
    ----------
    format
        Size after orientation, colour and bit depth.
    alpha
        Whether there is a transparency channel, which `read_image` leaves out.
    orientation
        EXIF/TIFF tag 274, 1 where the file has none.
    dpi
        Pixels per inch, None where the file states none.
    """

    format: Format
    alpha: bool = False
    orientation: int = 1
    dpi: float | None = None


def read_header(path: Path) -> Header:
    """Read size, colour and depth of an image file without its pixels.

    Raises
    ------
    FossilError
        Where the file is no image, or of a kind that a stack cannot hold (CMYK, floating point).
    """
    with named(str(path), *DECODER_ERRORS), path.open("rb") as stream:
        start = stream.read(26)
        stream.seek(0)
        if is_tiff(start):
            return _tiff_header(path)
        return _pillow_header(_opened(stream, start, path), start, path)


def read_image(path: Path) -> Pixels:
    """Read the pixels (y, x) or (y, x, 3) of an image file, upright and without transparency.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, or of a kind that a stack cannot hold.
    """
    with named(str(path), *DECODER_ERRORS):
        data = path.read_bytes()
        if is_tiff(data):
            from tifffile import TiffFile

            with TiffFile(path) as tif:
                return read_page(single_page(tif, path), str(path))
        image = _opened(io.BytesIO(data), data, path)
        header = _pillow_header(image, data, path)
        return oriented(_without_alpha(_decoded(image, data, header)), header.orientation)


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with `start` is a TIFF."""
    return start[:4] in _TIFF


def transparent_share(path: Path) -> float:
    """Return the share of the pixels of a PNG or TIFF that are not opaque (0 for a TIFF)."""
    with named(str(path), *DECODER_ERRORS):
        data = path.read_bytes()
        if is_tiff(data):
            return 0.0
        alpha = np.asarray(_opened(io.BytesIO(data), data, path).convert("RGBA"))[..., 3]
        return float(np.mean(alpha < 255))


# ---------------------------------------------------------------- PNG and JPEG


def _opened(stream: Any, start: bytes, path: Path) -> ImageFile:
    """Open a PNG or JPEG with Pillow.

    The classes are called directly because `Image.open` refuses slices above 179 Mpx, a limit
    against hostile files that is global to the process.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    if start.startswith(_JPEG):
        return JpegImageFile(stream)
    if start.startswith(_PNG):
        return PngImageFile(stream)
    raise FossilError(
        f"{path} is not an image",
        expected="a PNG, JPEG or TIFF file",
        found=f"a file that begins with {start[:12]!r}" if start else "an empty file",
        advice="Take the file out of the folder or replace it by the image.",
    )


def _pillow_header(image: ImageFile, start: bytes, path: Path) -> Header:
    if image.mode not in _RGB_OF_MODE:
        raise FossilError(
            f"The colours of {path} cannot be used",
            expected="grey or RGB of 8 or 16 bit",
            found=f"mode {image.mode}",
            advice="Convert the images to RGB first.",
        )
    turn = int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1
    size = oriented_size((image.height, image.width), turn)
    # Pillow reads 16 bit RGB as 8 bit; the depth itself stands at byte 24 of every PNG.
    deep = start.startswith(_PNG) and start[24] == 16
    kind = Format(size, _RGB_OF_MODE[image.mode], "uint16" if deep else "uint8")
    alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    return Header(kind, alpha, turn, _dpi(image.info.get("dpi")))


def _dpi(pair: Any) -> float | None:
    return float(pair[0]) if pair and pair[0] == pair[1] and pair[0] > 1 else None


def _decoded(image: ImageFile, data: bytes, header: Header) -> NDArray[Any]:
    """Decode with imagecodecs, three times as fast as Pillow, where it is safe."""
    import imagecodecs

    if data.startswith(_PNG):
        return np.asarray(imagecodecs.png_decode(data))
    # libjpeg fills what is missing with grey and says nothing; Pillow complains.
    if data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return np.asarray(imagecodecs.jpeg8_decode(data))
    return np.asarray(image.convert("RGB" if header.format.rgb else "L"))


def _without_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Colour channels of an image (y, x, channels), grey (y, x) where there is one."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if pixels.shape[2] <= 2 else pixels[..., :3]


# ------------------------------------------------------------------------ TIFF


def _tiff_header(path: Path) -> Header:
    from tifffile import TiffFile

    with TiffFile(path) as tif:
        page = single_page(tif, path)
        turn = tiff_orientation(page)
        size = oriented_size((page.imagelength, page.imagewidth), turn)
        dtype, rgb = tiff_colours(page, str(path))
        return Header(Format(size, rgb, dtype), bool(page.extrasamples), turn, tiff_dpi(page))


def single_page(tif: TiffFile, path: Path) -> TiffPage:
    """Return the page of a TIFF that holds one image (and perhaps smaller copies of it)."""
    pages: Any = tif.pages
    if pages.is_multipage and not pages[1].is_reduced:
        raise FossilError(
            f"{path} holds several images",
            expected="one image per file",
            found=f"{len(pages)} pages",
            advice="Open that file itself as a stack, or take it out of the folder.",
        )
    page: TiffPage = pages[0]
    return page


def read_page(page: TiffPage, name: str) -> Pixels:
    """Read a TIFF page as grey (y, x) or RGB (y, x, 3) of 8 or 16 bit, upright."""
    tiff_colours(page, name)
    return as_slice(np.asarray(page.asarray()), page)


def as_slice(pixels: NDArray[Any], page: TiffPage) -> Pixels:
    """Turn what is stored in a page into grey (y, x) or RGB (y, x, 3) of 8 or 16 bit, upright."""
    from tifffile import PHOTOMETRIC, PLANARCONFIG

    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels = np.iinfo(pixels.dtype).max - pixels
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Palettes are 16 bit even where the image is not.
        pixels = np.moveaxis(page.colormap[:, pixels] >> 8, 0, -1).astype(np.uint8)
    elif page.planarconfig == PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    return oriented(_without_alpha(pixels), tiff_orientation(page))


def tiff_colours(page: TiffPage, name: str) -> tuple[str, bool]:
    """Return the dtype of a page after `read_page`, and whether it is coloured."""
    kind = getattr(page.photometric, "name", str(page.photometric))
    coloured = _RGB_OF_PHOTOMETRIC.get(kind)
    samples = page.samplesperpixel - len(page.extrasamples)
    if coloured is None or page.dtype is None or samples != (3 if coloured else 1):
        raise FossilError(
            f"The colours of {name} cannot be used",
            expected="grey or RGB of 8 or 16 bit",
            found=f"{kind} of {samples} channels, {page.dtype}",
            advice="Save the image as grey or RGB of 8 or 16 bit.",
        )
    if kind == "PALETTE" or page.dtype == np.bool_:
        return "uint8", coloured or kind == "PALETTE"
    return check_dtype(page.dtype, name), coloured


def tiff_orientation(page: TiffPage) -> int:
    """Return tag 274 of a page, 1 where it has none."""
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def tiff_dpi(page: TiffPage) -> float | None:
    """Return the pixels per inch of a page, None where it states none or is not square."""
    from tifffile import RESUNIT

    if page.resolutionunit not in (RESUNIT.INCH, RESUNIT.CENTIMETER):
        return None
    return _dpi(page.get_resolution(RESUNIT.INCH))
