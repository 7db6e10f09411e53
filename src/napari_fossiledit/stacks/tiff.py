"""Multi-page TIFF stacks, read page by page; axes and scales of ImageJ and OME are understood."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.decode import (
    DECODER_ERRORS,
    as_slice,
    read_page,
    tiff_colours,
    tiff_dpi,
    tiff_orientation,
)
from napari_fossiledit.stacks.pixels import Pixels, oriented_size
from napari_fossiledit.stacks.section import (
    SectionStack,
    StackRecord,
    SuggestedGeometry,
    named,
)
from napari_fossiledit.stacks.units import UM_PER_INCH, believable_dpi, in_um

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

# One of these counts the slices: depth, or what programs call it that do not know better.
_DEPTH_AXES = "ZTIQR"


class Layout(NamedTuple):
    """Where the planes of a slice are in the file.

    Attributes
    ----------
    slices, channels
        How many slices, and how many separate pages (1 or 3) make up one of them.
    channels_first
        Whether all slices of the first channel come before those of the second one.
    """

    slices: int
    channels: int
    channels_first: bool

    def planes(self, z: int) -> list[int]:
        """Return the pages of slice `z`, one per channel."""
        if self.channels_first:
            return [c * self.slices + z for c in range(self.channels)]
        return [z * self.channels + c for c in range(self.channels)]


class TiffStack(SectionStack):
    """A multi-page TIFF; the file stays open and is read one page at a time."""

    def __init__(self, record: StackRecord, cache: SliceCache | None = None) -> None:
        super().__init__(record, cache)
        self._tif: TiffFile | None = None
        # The reader has one position in the file for all threads.
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a TIFF of several pages as a stack.

        Raises
        ------
        FossilError
            Where pages differ in size, or the axes are not those of a stack.
        """
        with named(str(path), *DECODER_ERRORS), _open_tiff(path) as tif:
            _check_complete(tif, path)
            return cls(_record(path, _only_series(tif, path)))

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size by OME or ImageJ metadata, else by the resolution tags."""
        with self._lock:
            tif, name = self._opened(), self.path.name
            page: Any = tif.pages[0]
            stated = None
            if tif.ome_metadata:
                stated = _ome_geometry(tif.ome_metadata, name)
            elif tif.imagej_metadata:
                stated = _imagej_geometry(tif.imagej_metadata, page, name)
            if stated is not None:
                return stated
            dpi = tiff_dpi(page)
        if not believable_dpi(dpi):
            return None
        return SuggestedGeometry(UM_PER_INCH / dpi, None, f"{dpi:g} pixels per inch in {name}")

    def close(self) -> None:
        """Close the file and forget the cached slices."""
        super().close()
        with self._lock:
            if self._tif is not None:
                self._tif.close()
            self._tif = None

    def _opened(self) -> TiffFile:
        if self._tif is None:
            self._tif = _open_tiff(self.path)
        return self._tif

    def _decode(self, z: int) -> Pixels:
        with named(f"Slice {z} ({self.names[z]}) of {self.path}", *DECODER_ERRORS), self._lock:
            series = self._opened().series[0]
            planes = [self._plane(series, k) for k in _layout(series, self.path).planes(z)]
        if len(planes) == 1:
            return planes[0]
        pixels: NDArray[Any] = np.stack(planes, axis=-1)
        return pixels

    def _plane(self, series: TiffPageSeries, index: int) -> Pixels:
        if series.dataoffset is None or series.keyframe.is_tiled:
            page: Any = series.pages[index]
            if page is None:
                raise FossilError(f"Page {index} of {self.path} is missing")
            return read_page(page.aspage(), f"{self.path}#{index}")
        # Uncompressed data: ImageJ may have written the header of the first page only.
        keyframe: TiffPage = series.keyframe
        tif = self._opened()
        count = math.prod(keyframe.shape)
        dtype = np.dtype(series.dtype).newbyteorder(tif.byteorder)
        tif.filehandle.seek(series.dataoffset + index * count * dtype.itemsize)
        flat: NDArray[Any] = tif.filehandle.read_array(dtype, count)
        return as_slice(flat.reshape(keyframe.shape).astype(dtype.newbyteorder("=")), keyframe)


def _open_tiff(path: Path) -> TiffFile:
    """Open a TIFF so that equal pages form one series, even where they were written one by one."""
    from tifffile import TiffFile

    tif = TiffFile(path)
    if not tif.is_shaped or len(tif.series) == 1:
        return tif
    tif.close()
    return TiffFile(path, is_shaped=False)


def _check_complete(tif: TiffFile, path: Path) -> None:
    """Check that a file has its end: the last page must not point to one that is not there."""
    pages = len(tif.pages)
    tif.filehandle.seek(tif.pages.next_page_offset or 0)
    if any(tif.filehandle.read(tif.tiff.offsetsize)):
        raise FossilError(
            f"{path} is cut off",
            expected=f"more than {pages} pages",
            found=f"the end of the file after page {pages - 1}",
            advice="Copy the file again from the original.",
        )


def _only_series(tif: TiffFile, path: Path) -> TiffPageSeries:
    """Return the one series of equal pages that the file should consist of."""
    first: TiffPageSeries = tif.series[0]
    # Cameras and slide scanners add pictures of the label or small copies; those are marked.
    others = [s for s in tif.series[1:] if s.shape and not s.keyframe.is_reduced]
    if others:
        page: TiffPage = others[0].keyframe
        expected, actual = (
            f"{p.imagewidth} x {p.imagelength} pixels, {p.samplesperpixel} x {p.dtype}"
            for p in (first.keyframe, page)
        )
        raise FossilError(
            f"Page {page.index} of {path} does not fit the {len(first)} pages before it",
            expected=expected,
            found=actual,
            advice="Save the pages again with one size, or as a folder of images.",
        )
    return first


def _layout(series: TiffPageSeries, path: Path) -> Layout:
    """Find the axis that counts slices, and how colours are arranged."""
    outer = [
        (axis, size)
        for axis, size in zip(series.axes, series.shape, strict=True)
        if axis not in "YXS" and size > 1
    ]
    if len(outer) < 2:
        # Whatever a program calls the only axis beside y and x, it counts the slices.
        return Layout(outer[0][1] if outer else 1, 1, False)
    sizes = dict(outer)
    names = set(sizes)
    depth = names & set(_DEPTH_AXES)
    if names != depth | {"C"} or len(depth) != 1 or sizes["C"] != 3:
        raise FossilError(
            f"The axes of {path} are not those of a stack",
            expected="z, y, x and perhaps 3 colours",
            found=", ".join(f"{a} ({n})" for a, n in zip(series.axes, series.shape, strict=True)),
            advice="Save one time point, with its channels merged to RGB or one of them alone.",
        )
    return Layout(sizes[depth.pop()], 3, outer[0][0] == "C")


def _record(path: Path, series: TiffPageSeries) -> StackRecord:
    page: TiffPage = series.keyframe
    layout = _layout(series, path)
    dtype, coloured = tiff_colours(page, str(path))
    rgb = coloured or layout.channels == 3
    size = oriented_size((page.imagelength, page.imagewidth), tiff_orientation(page))
    return StackRecord(
        kind="tiff",
        path=path,
        names=tuple(f"{path.name}#{z}" for z in range(layout.slices)),
        shape=(layout.slices, *size, 3) if rgb else (layout.slices, *size),
        dtype=dtype,
        rgb=rgb,
    )


def _ome_geometry(xml: str, name: str) -> SuggestedGeometry | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    # OME's unit is um where none is given.
    x, z = (
        in_um(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "um"))
        for a in "XZ"
    )
    return SuggestedGeometry(x, z, f"OME metadata of {name}") if x or z else None


def _imagej_geometry(
    metadata: dict[str, Any], page: TiffPage, name: str
) -> SuggestedGeometry | None:
    unit = str(metadata.get("unit", ""))
    across = page.get_resolution()[0]
    x = in_um(1 / across if across and across != 1 else None, unit)
    z = in_um(metadata.get("spacing"), unit)
    return SuggestedGeometry(x, z, f"ImageJ metadata of {name}") if x or z else None
