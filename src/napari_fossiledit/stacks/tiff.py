"""Images in a TIFF: which pages make up a slice, and what the numbers in them mean.

Photographs and label images are read here. tifffile groups pages into series by what they look
like and by the metadata of ImageJ, OME and others; it returns what it finds and fills the rest
with zeros, so whether all is there is checked here.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.pixels import (
    Format,
    Header,
    Pixels,
    check_dtype,
    oriented,
    oriented_size,
    without_alpha,
)

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DESCRIPTION, _ORIENTATION = 270, 274
# One of these counts the slices: depth, or what programs call it that do not know better.
_DEPTH_AXES = "ZTIQR"
# Photometric interpretations, and whether a pixel has three numbers.
_RGB_OF_PHOTOMETRIC = {
    "MINISBLACK": False,
    "MINISWHITE": False,
    "PALETTE": False,
    "RGB": True,
    "YCBCR": True,
}


class Layout(NamedTuple):
    """Where the planes of a slice are in the file.

    Attributes
    ----------
    slices, channels
        How many slices, and how many separate pages (1 or 3) make up one of them.
    channels_first
        True where all slices of the first channel come before those of the second one.
    """

    slices: int
    channels: int = 1
    channels_first: bool = False

    def planes(self, z: int) -> list[int]:
        """Return the pages of slice `z`, one per channel."""
        if self.channels_first:
            return [c * self.slices + z for c in range(self.channels)]
        return [z * self.channels + c for c in range(self.channels)]


class TiffImages:
    """The slices of a TIFF file, which stays open; safe to use from several threads.

    Parameters
    ----------
    check
        Check that all slices are there, whole and of one size.

    Attributes
    ----------
    layout
        How many slices there are.
    notes
        What was assumed and left out, for the user; complete where it was checked.

    Raises
    ------
    FossilError
        Where slices are missing or differ in size, or the axes are not those of a stack.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        self.path, self.notes = path, list[str]()
        # The reader has one position in the file for all threads.
        self._lock = threading.Lock()
        self._tif = _open_tiff(path)
        try:
            self._series: TiffPageSeries = self._tif.series[0]
            self._pages = self._listed_pages()
            self.layout = Layout(len(self._pages)) if self._pages else self._axes_layout()
            if check:
                self._check_complete()
        except BaseException:
            self._tif.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return self.layout.slices

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._tif.close()

    @property
    def page(self) -> TiffPage:
        """The first page, which tells what all are like."""
        return self._pages[0] if self._pages else self._series.keyframe

    @property
    def tif(self) -> TiffFile:
        """The file as tifffile knows it, for its metadata."""
        return self._tif

    @property
    def size(self) -> tuple[int, int]:
        """Height and width (y, x) of the slices, upright."""
        return _size(self.page)

    @property
    def separate_planes(self) -> int:
        """How many planes of colour the first page keeps one after the other, 1 for none."""
        from tifffile import PLANARCONFIG

        page = self.page
        return page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1

    def header(self) -> Header:
        """Return format, resolution and notes, checking that all pages have one format.

        Raises
        ------
        FossilError
            Where the pages are of a kind that a stack cannot hold, or differ.
        """
        first, notes = _format(self.page, str(self.path))
        for page in self._pages[1:]:
            found, _ = _format(page, str(self.path))
            if found != first:
                raise _misfit(self.path, page, first, found)
        if self.layout.channels == 3:
            if first.rgb:
                raise self._foreign_axes()
            first = Format(first.size, True, first.dtype)
            notes.append("3 channels are taken for red, green and blue")
        turn = _orientation(self.page)
        if turn not in (0, 1):
            notes.append("turned upright by its orientation tag")
        return Header(
            first, bool(self.page.extrasamples), turn, _dpi(self.page), (*notes, *self.notes)
        )

    def pixels(self, z: int) -> Pixels:
        """Read slice `z` as grey (y, x) or RGB (y, x, 3) of 8 or 16 bit, upright."""
        return self._joined(z, [_as_slice(*self._plane(k)) for k in self.layout.planes(z)])

    def stored(self, z: int) -> NDArray[Any]:
        """Read the numbers of slice `z` as they are stored (y, x) or (y, x, 3), but upright."""
        return self._joined(
            z,
            [
                oriented(_interleaved(pixels, page), _orientation(page))
                for pixels, page in (self._plane(k) for k in self.layout.planes(z))
            ],
        )

    def _joined(self, z: int, planes: Sequence[NDArray[Any]]) -> NDArray[Any]:
        if any(plane.shape[:2] != self.size for plane in planes):
            raise FossilError(f"Slice {z} of {self.path} has another size than the first one")
        return planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)

    def _plane(self, index: int) -> tuple[NDArray[Any], TiffPage]:
        """Read what is stored in a plane, and return the page that says what it means."""
        with self._lock:
            if self._pages:
                return np.asarray(self._pages[index].asarray()), self._pages[index]
            keyframe: TiffPage = self._series.keyframe
            if self._series.dataoffset is None or keyframe.is_tiled:
                page: Any = self._series.pages[index]
                if page is None:
                    raise FossilError(f"Page {index} of {self.path} is missing")
                page = page.aspage()
                if page.shape != keyframe.shape:
                    raise _misfit(self.path, page, keyframe, page)
                return np.asarray(page.asarray()), page
            # Uncompressed data: ImageJ may have written the header of the first page only.
            count = math.prod(keyframe.shape)
            dtype = np.dtype(self._series.dtype).newbyteorder(self._tif.byteorder)
            self._tif.filehandle.seek(self._series.dataoffset + index * count * dtype.itemsize)
            flat: NDArray[Any] = self._tif.filehandle.read_array(dtype, count)
            return flat.reshape(keyframe.shape).astype(dtype.newbyteorder("=")), keyframe

    # ---------------------------------------------------- which pages are slices

    def _listed_pages(self) -> list[TiffPage]:
        """Return the pages that are slices one by one; none where metadata arrange them.

        tifffile puts pages of another compression or kind into series of their own, which would
        drop slices; small copies are dropped here, marked or not.
        """
        arranged = self._series.kind not in ("generic", "uniform")
        stated = self._stated_pages()
        if arranged and not 0 < stated < len(self._tif.pages):
            return []
        pages: list[Any] = [page.aspage() for page in self._tif.pages]
        full = [page for page in pages if not page.is_reduced]
        if len(full) < stated:
            raise _cut_off(self.path, f"{stated} images", f"{len(full)}")
        first = full[0] if full else pages[0]
        small = [p for p in full if _is_preview(p, first)]
        if small and (len(small) <= len(full) / 2 or _shrinks(full)):
            full = [p for p in full if p not in small]
            listed = ", ".join(f"{p.index} ({p.imagewidth} x {p.imagelength})" for p in small[:3])
            self.notes.append(f"page {listed} is taken for a small copy of the image and left out")
        if arranged:
            if len(self._outer_axes()) > 1 or len(full) <= stated:
                return []
            self.notes.append(f"its metadata tell of {stated} images, but {len(full)} are read")
        for page in full[1:]:
            if _size(page) != _size(first):
                raise _misfit(self.path, page, first, page)
        return full or pages[:1]

    def _stated_pages(self) -> int:
        """Return how many images the metadata promise, 0 where they promise nothing."""
        if self._tif.imagej_metadata:
            count = self._tif.imagej_metadata.get("images", 0)
            return count if isinstance(count, int) else 0
        if self._series.kind == "ome" and len(_ome_files(self._tif)) < 2:
            return math.prod(n for _, n in self._outer_axes())
        return 0

    def _outer_axes(self) -> list[tuple[str, int]]:
        series = self._series
        sizes = zip(series.axes, series.shape, strict=True)
        return [(axis, size) for axis, size in sizes if axis not in "YXS" and size > 1]

    def _axes_layout(self) -> Layout:
        """Find the axis that counts slices, and how colours are arranged."""
        # Cameras and slide scanners add pictures of the label or small copies.
        first = self.page
        for series in self._tif.series[1:]:
            page = series.keyframe
            if series.shape and not page.is_reduced and not _is_preview(page, first):
                raise _misfit(self.path, page, first, page)
        outer = self._outer_axes()
        if not outer:
            return Layout(1)
        metadata = self._tif.imagej_metadata or {}
        if [axis for axis, _ in outer] == ["C"] and metadata.get("mode") == "grayscale":
            # What programs write that call the first axis of any array channels.
            self.notes.append(f"its {outer[0][1]} grey channels are taken for slices")
            return Layout(outer[0][1])
        sizes = dict(outer)
        depth = sizes.keys() & set(_DEPTH_AXES)
        extra = sizes.keys() - depth
        # Two axes may have one name.
        nameable = len(sizes) == len(outer) and len(depth) <= 1 and extra <= {"C"}
        if not nameable or sizes.get("C", 3) != 3:
            raise self._foreign_axes()
        slices = sizes[depth.pop()] if depth else 1
        return Layout(slices, 3, outer[0][0] == "C") if extra else Layout(slices)

    def _foreign_axes(self) -> FossilError:
        sizes = zip(self._series.axes, self._series.shape, strict=True)
        return FossilError(
            f"The axes of {self.path} are not those of a stack",
            expected="z, y, x and perhaps 3 colours",
            found=", ".join(f"{axis} ({n})" for axis, n in sizes),
            advice="Save one time point, with its channels merged to RGB or one of them alone.",
        )

    # ------------------------------------------------------- whether all is there

    def _check_complete(self) -> None:
        """Check that no page is missing, and that the file holds the data of all of them."""
        tif, path = self._tif, self.path
        pages = len(tif.pages)
        tif.filehandle.seek(tif.pages.next_page_offset or 0)
        if any(tif.filehandle.read(tif.tiff.offsetsize)):
            raise _cut_off(
                path, f"more than {pages} pages", f"the end of the file after page {pages - 1}"
            )
        if _lost_description(tif):
            raise _cut_off(path, "a description of its axes", "none that can be read")
        missing = [name for name in _ome_files(tif) if not (path.parent / name).is_file()]
        if missing:
            raise FossilError(
                f"{path} belongs to a set of files that is not complete",
                expected=f"{len(_ome_files(tif))} files beside it",
                found=f"no {missing[0]}" + (f" and {len(missing) - 1} more" * (len(missing) > 1)),
                advice="Copy all files of the set into one folder.",
            )
        if (tif.ome_metadata or "").find("BinaryOnly") >= 0:
            self.notes.append("its OME metadata lie in another file; only its own pages are read")
        if self._pages:
            self._check_extent(self._pages)
        elif self._series.dataoffset is None or self._series.keyframe.is_tiled:
            found = [p for p in self._series.pages if p is not None]
            if len(found) < len(self._series.pages):
                raise _cut_off(path, f"{len(self._series.pages)} images", f"{len(found)}")
            self._check_extent(found)
        else:
            size = math.prod(self._series.shape) * np.dtype(self._series.dtype).itemsize
            if self._series.dataoffset + size > tif.filehandle.size:
                raise _cut_off(path, f"{size} bytes of pixels", f"{tif.filehandle.size} bytes")
        if (stated := self._stated_pages()) > self.layout.slices * self.layout.channels:
            raise _cut_off(path, f"{stated} images", f"{self.layout.slices}")

    def _check_extent(self, pages: Iterable[Any]) -> None:
        for number, page in enumerate(pages):
            size = page.parent.filehandle.size
            parts = zip(page.dataoffsets, page.databytecounts, strict=False)
            end = max((offset + count for offset, count in parts), default=0)
            if page.keyframe.is_contiguous:
                # Some programs count the rows of the last strip that lie outside the image.
                end = min(end, page.dataoffsets[0] + page.keyframe.nbytes)
            elif len(page.dataoffsets) < math.prod(page.keyframe.chunked):
                strips = math.prod(page.keyframe.chunked)
                raise _cut_off(
                    self.path,
                    f"{strips} strips or tiles in page {number}",
                    f"{len(page.dataoffsets)}",
                )
            if end > size:
                name = f"page {number} to end at byte {end}"
                raise _cut_off(self.path, name, f"{size} bytes")


def is_tiff(start: bytes) -> bool:
    """Return whether a file that begins with `start` is a TIFF."""
    return start[:4] in _MAGIC


def _open_tiff(path: Path) -> TiffFile:
    """Open a TIFF so that pages written one by one are listed one by one."""
    from tifffile import TiffFile

    tif = TiffFile(path)
    if not tif.is_shaped or len(tif.series) == 1:
        return tif
    tif.close()
    return TiffFile(path, is_shaped=False)


def _lost_description(tif: TiffFile) -> bool:
    """Return whether the first page points to a description that tifffile could not read.

    OME writes it to the end of the file, and without it ten slices look like one.
    """
    first: Any = tif.pages[0]
    if _DESCRIPTION in first.tags:
        return False
    tif.filehandle.seek(first.offset)
    head = tif.filehandle.read(tif.tiff.tagnosize)
    (count,) = struct.unpack(tif.tiff.tagnoformat, head)
    entries = tif.filehandle.read(count * tif.tiff.tagsize)
    codes = range(0, len(entries), tif.tiff.tagsize)
    return any(
        struct.unpack_from(f"{tif.byteorder}H", entries, k) == (_DESCRIPTION,) for k in codes
    )


def _ome_files(tif: TiffFile) -> list[str]:
    """Return the files in which the planes of an OME-TIFF lie, as it names them."""
    try:
        root = ElementTree.fromstring(tif.ome_metadata or "")
    except ElementTree.ParseError:
        return []
    names = (entry.get("FileName") for entry in root.iterfind(".//{*}TiffData/{*}UUID"))
    found = sorted({name for name in names if name})
    # A file that was renamed still names itself.
    return found if len(found) > 1 else []


def _is_preview(page: TiffPage, first: TiffPage) -> bool:
    """Return whether a page is at most half as large as the first one, in both directions."""
    return 2 * page.imagewidth <= first.imagewidth and 2 * page.imagelength <= first.imagelength


def _shrinks(pages: Sequence[TiffPage]) -> bool:
    """Return whether each page is a smaller copy of the one before, as in a pyramid."""
    return all(_is_preview(b, a) for a, b in pairwise(pages))


def _cut_off(path: Path, expected: str, found: str) -> FossilError:
    return FossilError(
        f"{path} is cut off, or parts of it are missing",
        expected=expected,
        found=found,
        advice="Copy the file again from the original.",
    )


def _misfit(path: Path, page: TiffPage, expected: object, found: object) -> FossilError:
    from tifffile import TiffPage

    expected, found = (
        f"{p.imagewidth} x {p.imagelength} pixels" if isinstance(p, TiffPage) else p
        for p in (expected, found)
    )
    same = "" if expected != found else ", as a series of its own"
    return FossilError(
        f"Page {page.index} of {path} does not fit the pages before it",
        expected=expected,
        found=f"{found}{same}",
        advice="Save the slices as pages of one size and kind, or as a folder of images.",
    )


# ------------------------------------------------------- what the numbers mean


def _format(page: TiffPage, name: str) -> tuple[Format, list[str]]:
    """Return the format of a page after `_as_slice`, and how its numbers are interpreted."""
    kind = getattr(page.photometric, "name", str(page.photometric))
    coloured = _RGB_OF_PHOTOMETRIC.get(kind)
    samples, bits = page.samplesperpixel - len(page.extrasamples), page.bitspersample
    usable = coloured is not None and page.dtype is not None and samples == (3 if coloured else 1)
    # tifffile gives the bits of 5-6-5 colours as a tuple.
    odd = type(bits) is not int or page.imagedepth > 1 or _is_subsampled(page)
    if not usable or odd:
        raise FossilError(
            f"The colours of {name} cannot be used",
            expected="grey or RGB of 8 or 16 bit",
            found=f"{kind} of {samples} channels, {page.dtype}, {bits} bits"
            + ", colours of half the resolution" * _is_subsampled(page),
            advice="Save the image as grey or RGB of 8 or 16 bit.",
        )
    size, notes = _size(page), []
    if kind == "PALETTE":
        if _is_8_bit_palette(page):
            notes.append("its palette holds colours of 0 to 255")
        return Format(size, True, "uint8"), notes
    if kind == "MINISWHITE":
        notes.append("0 stands for white; values are turned round")
    if page.dtype == np.bool_:
        return Format(size, False, "uint8"), notes
    dtype = check_dtype(np.dtype(page.dtype), name)
    if bits < 8 * np.dtype(dtype).itemsize:
        notes.append(f"values of {bits} bits are scaled to {dtype}")
    if kind == "YCBCR" and not _is_jpeg(page):
        notes.append("YCbCr colours are turned into RGB")
    return Format(size, bool(coloured), dtype), notes


def _as_slice(pixels: NDArray[Any], page: TiffPage) -> Pixels:
    """Turn what is stored in a page into grey (y, x) or RGB (y, x, 3) of 8 or 16 bit, upright."""
    from tifffile import PHOTOMETRIC

    full = 1 if pixels.dtype == np.bool_ else 2**page.bitspersample - 1
    pixels = without_alpha(_interleaved(pixels, page))
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        # Palettes are 16 bit even where the image is not.
        shift = 0 if _is_8_bit_palette(page) else 8
        pixels = np.moveaxis(page.colormap[:, pixels] >> shift, 0, -1).astype(np.uint8)
        return oriented(pixels, _orientation(page))
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        pixels = full - pixels
    if page.photometric == PHOTOMETRIC.YCBCR and not _is_jpeg(page):
        pixels = np.asarray(Image.fromarray(pixels, "YCbCr").convert("RGB"))
    largest = np.iinfo(pixels.dtype).max
    if full < largest:
        pixels = ((pixels.astype(np.uint32) * largest + full // 2) // full).astype(pixels.dtype)
    return oriented(pixels, _orientation(page))


def _interleaved(pixels: NDArray[Any], page: TiffPage) -> NDArray[Any]:
    from tifffile import PLANARCONFIG

    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    separate = page.planarconfig == PLANARCONFIG.SEPARATE and pixels.ndim == 3
    return np.moveaxis(pixels, 0, -1) if separate else pixels


def _is_8_bit_palette(page: TiffPage) -> bool:
    """Return whether a palette was written with 8 bit, as libtiff judges it: none above 255."""
    return page.colormap is not None and int(page.colormap.max()) < 256


def _is_jpeg(page: TiffPage) -> bool:
    """Return whether a page is compressed as JPEG, whose decoder returns RGB."""
    return getattr(page.compression, "name", "") in ("JPEG", "OJPEG", "ALT_JPEG", "JPEG_LOSSY")


def _is_subsampled(page: TiffPage) -> bool:
    from tifffile import PHOTOMETRIC

    raw = page.photometric == PHOTOMETRIC.YCBCR and not _is_jpeg(page)
    return raw and (tuple(page.subsampling or (1, 1)) != (1, 1) or page.bitspersample != 8)


def _size(page: TiffPage) -> tuple[int, int]:
    return oriented_size((page.imagelength, page.imagewidth), _orientation(page))


def _orientation(page: TiffPage) -> int:
    """Return tag 274 of a page, 1 where it has none."""
    tag = page.tags.get(_ORIENTATION)
    return 1 if tag is None else int(tag.value)


def _dpi(page: TiffPage) -> tuple[float, float] | None:
    """Return the pixels per inch of a page along x and y, None where it states none."""
    from tifffile import RESUNIT

    if page.resolutionunit not in (RESUNIT.INCH, RESUNIT.CENTIMETER):
        return None
    across, down = page.get_resolution(RESUNIT.INCH)
    return (float(across), float(down)) if across > 1 and down > 1 else None
