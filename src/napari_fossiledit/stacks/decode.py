"""Headers and pixels of single image files: PNG, JPEG and TIFF, recognised by their content."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.pixels import (
    Format,
    Header,
    Pixels,
    oriented,
    oriented_size,
    without_alpha,
)
from napari_fossiledit.stacks.section import named
from napari_fossiledit.stacks.tiff import TiffImages, is_tiff

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

#: What Pillow, imagecodecs, tifffile and zarr raise where a file is broken: with sizes and offsets
#: that mean nothing they divide by zero, miss what they took for granted, or want all memory.
DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    MemoryError,
    OSError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

_ORIENTATION = 274
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _JPEG_SCAN = b"\xff\xd9", 0xDA
#: Bytes at the end of a file in which its end mark is looked for first.
_TAIL = 4096
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
            with _one_image(path, check=True) as images:
                return images.header()
        header = _pillow_header(_opened(stream, start, path), start, path)
        if not _has_end(stream, start):
            header = replace(header, notes=(*header.notes, "it is cut off and cannot be read"))
        return header


def read_image(path: Path) -> Pixels:
    """Read the pixels (y, x) or (y, x, 3) of an image file, upright and without transparency.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, or of a kind that a stack cannot hold.
    """
    with named(str(path), *DECODER_ERRORS):
        with path.open("rb") as stream:
            tiff = is_tiff(stream.read(4))
        if tiff:
            with _one_image(path) as images:
                images.header()
                return images.pixels(0)
        data = path.read_bytes()
        image = _opened(io.BytesIO(data), data, path)
        header = _pillow_header(image, data, path)
        return oriented(without_alpha(_decoded(image, data, header)), header.orientation)


def read_stored(path: Path) -> NDArray[Any]:
    """Read the numbers of a PNG as they are stored, upright; those of a palette are its indices.

    Raises
    ------
    FossilError
        Where the file is missing, truncated, or no PNG.
    """
    with named(str(path), *DECODER_ERRORS):
        data = path.read_bytes()
        image = _opened(io.BytesIO(data), data, path)
        if data.startswith(_JPEG):
            raise FossilError(
                f"{path} holds no labels",
                expected="a PNG or TIFF file",
                found="a JPEG file, whose compression changes the values",
                advice="Save the labels as PNG or TIFF.",
            )
        import imagecodecs

        turn = _turn(image)
        if image.mode in ("1", "P", "PA"):
            pixels = np.asarray(image)
            pixels = pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
            return oriented(without_alpha(pixels), turn)
        pixels = np.asarray(imagecodecs.png_decode(data))
        if (depth := data[24]) < 8:
            # Decoders scale grey of 2 and 4 bit up to 255.
            pixels = pixels // (255 // (2**depth - 1))
        return oriented(without_alpha(pixels), turn)


def transparent_share(path: Path) -> float:
    """Return the share of the pixels of a PNG or TIFF that are not opaque (0 for a TIFF)."""
    with named(str(path), *DECODER_ERRORS):
        data = path.read_bytes()
        if is_tiff(data):
            return 0.0
        alpha = np.asarray(_opened(io.BytesIO(data), data, path).convert("RGBA"))[..., 3]
        return float(np.mean(alpha < 255))


def _one_image(path: Path, *, check: bool = False) -> TiffImages:
    """Open a TIFF that holds one image, and perhaps smaller copies of it."""
    images = TiffImages(path, check=check)
    if len(images) > 1:
        images.close()
        raise FossilError(
            f"{path} holds several images",
            expected="one image per file",
            found=f"{len(images)} pages",
            advice="Open that file itself as a stack, or take it out of the folder.",
        )
    return images


# ---------------------------------------------------------------- PNG and JPEG


def _opened(stream: Any, start: bytes, path: Path) -> ImageFile:
    """Open a PNG or JPEG with Pillow.

    The classes are called directly because `Image.open` refuses slices above 179 Mpx, a limit
    against hostile files that is global to the process.
    """
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile

    require_image(start, path)
    return JpegImageFile(stream) if start.startswith(_JPEG) else PngImageFile(stream)


def require_image(start: bytes, path: Path) -> None:
    """Raise where a file that begins with `start` is neither PNG nor JPEG.

    Raises
    ------
    FossilError
        With how it begins.
    """
    if start.startswith((_JPEG, _PNG)):
        return
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
    turn = _turn(image)
    size = oriented_size((image.height, image.width), turn)
    # Pillow reads 16 bit RGB as 8 bit; the depth itself stands at byte 24 of every PNG.
    deep = start.startswith(_PNG) and start[24] == 16
    kind = Format(size, _RGB_OF_MODE[image.mode], "uint16" if deep else "uint8")
    alpha = image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info
    notes = () if turn in (0, 1) else ("turned upright by its EXIF orientation",)
    dpi = image.info.get("dpi")
    return Header(kind, alpha, turn, (float(dpi[0]), float(dpi[1])) if dpi else None, notes)


def _turn(image: ImageFile) -> int:
    """Return the EXIF orientation of an image, 1 where it has none."""
    return int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1


def _has_end(stream: Any, start: bytes) -> bool:
    """Return whether a PNG or JPEG has its end mark."""
    stream.seek(0, io.SEEK_END)
    stream.seek(max(0, stream.tell() - _TAIL))
    tail = stream.read()
    if start.startswith(_PNG):
        return b"IEND" in tail
    if tail.rstrip(b"\0").endswith(_JPEG_END):
        return True
    # Cameras add data after the end; a preview in the head has an end mark too.
    stream.seek(0)
    data = stream.read()
    position = 2
    while data[position : position + 1] == b"\xff" and data[position + 1] != _JPEG_SCAN:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return bool(data.find(_JPEG_END, position) >= 0)


def _decoded(image: ImageFile, data: bytes, header: Header) -> NDArray[Any]:
    """Decode with imagecodecs, three times as fast as Pillow, where it is safe."""
    import imagecodecs

    if data.startswith(_PNG):
        return np.asarray(imagecodecs.png_decode(data))
    # libjpeg fills what is missing with grey and says nothing; Pillow complains.
    if data.rstrip(b"\0").endswith(_JPEG_END):
        return np.asarray(imagecodecs.jpeg8_decode(data))
    return np.asarray(image.convert("RGB" if header.format.rgb else "L"))
