"""Label images as traced slices: one value a pixel, each value is one instance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import zarr
from natsort import natsorted
from numpy.typing import NDArray
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import (
    LARGEST_SPECIMEN,
    NameIndex,
    ProblemList,
    Target,
    TracedSlice,
    by_order,
    size_text,
)
from napari_fossiledit.files import explained
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import intersections

LabelArray = NDArray[np.integer[Any]]

_LEAST_AGREEMENT = 0.8
"""Share of the values of neighbouring slices that must overlap to be taken for identities:
values counted anew in each slice agree by chance only."""

_TIFF = (".tif", ".tiff")
_SUFFIXES = (".png", *_TIFF)
# Raised by Pillow, tifffile and zarr for damaged files.
_BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    SyntaxError,
    EOFError,
    RuntimeError,
    tifffile.TiffFileError,
)


class LabelImages(ProblemList):
    """A folder of label images, a multi-page TIFF or one image (see `TracingFile`).

    Parameters
    ----------
    path
        The folder or file.
    target
        The stack. Images are matched by name (see `NameIndex`), else in order: to all slices
        where there are as many, else to the chosen ones.
    class_name
        Class of the instances.
    part
        What the masks cover.

    Raises
    ------
    FossilError
        Where there is no label image, or their number fits nothing.
    """

    def __init__(self, path: Path, target: Target, class_name: str, part: Part = Part.BODY) -> None:
        super().__init__(path)
        self._target, self._class_name, self._part = target, class_name, part
        self._pages = self._placed(_label_pages(path))
        self._shared = self._overlapping = 0

    @property
    def count(self) -> int:
        """Number of images of chosen slices."""
        return len(self._pages)

    @property
    def identified(self) -> bool:
        """True where values mean the same specimen in every slice.

        Judged by the values that a slice shares with the last one that has any: nearly all of them
        must overlap.
        """
        return self._shared > 0 and self._overlapping >= _LEAST_AGREEMENT * self._shared

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time; images without a label are left out."""
        before: dict[int, Mask] = {}
        for z, page in self._pages:
            masks = self._masks(page)
            for value in before.keys() & masks.keys():
                self._shared += 1
                self._overlapping += bool(intersections([before[value]], [masks[value]])[0, 0])
            # An image without a label was not traced: nothing is known to end there.
            before = masks or before
            instances = [
                Instance(
                    slice=z,
                    class_name=self._class_name,
                    mask=mask,
                    part=self._part,
                    origin=Origin.IMPORTED,
                    specimen=value,
                    id=-value,
                )
                for value, mask in masks.items()
            ]
            if instances:
                yield TracedSlice(z, instances)

    def _placed(self, pages: list[_LabelPage]) -> list[tuple[int, _LabelPage]]:
        """Return chosen slices with their images, in stack order."""
        index, chosen = NameIndex(self._target.names), self._target.slices
        slices = [index.find(page.name) for page in pages]
        if all(z is None for z in slices):
            slices = list(by_order(len(pages), self._target, str(self.path)))
        placed = {}
        for z, page in zip(slices, pages, strict=True):
            if z is None:
                self.leave_out(f"image {page.name}", "it is no slice of the stack")
            else:
                placed[z] = page
        return sorted((z, p) for z, p in placed.items() if chosen is None or z in chosen)

    def _masks(self, page: _LabelPage) -> dict[int, Mask]:
        try:
            labels = page.read()
            if labels.shape != self._target.shape:
                raise FossilError(
                    "It is of another size",
                    expected=self._target.size,
                    found=size_text(labels.shape),
                )
        except FossilError as error:
            self.leave_out(f"image {page.name}", error)
            return {}
        masks = masks_of_labels(labels)
        for value in [v for v in masks if v > LARGEST_SPECIMEN]:
            self.leave_out(f"image {page.name}", f"label {value} is above {LARGEST_SPECIMEN}")
            del masks[value]
        return masks


# --------------------------------------------------------------------------- files


class _LabelPage(NamedTuple):
    """One label image that was not read yet; a page of a TIFF is called ``"stack.tif#12"``."""

    name: str
    read: Callable[[], LabelArray]


def _label_pages(path: Path) -> list[_LabelPage]:
    """Find the label images of a folder (in natural order), the pages of a TIFF, or one image."""
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES]
        pages = [p for f in natsorted(files, key=lambda f: f.name) for p in _pages_of(f)]
        if not pages:
            raise FossilError(
                f"{path} holds no label image", expected="PNG or TIFF files", found="none"
            )
        return pages
    return _pages_of(path)


def _pages_of(path: Path) -> list[_LabelPage]:
    if path.suffix.lower() not in _TIFF:
        return [_LabelPage(path.name, partial(_labels, path, partial(_open_image, path)))]
    volume = _decoded(path, partial(_open_tiff, path))
    if volume.ndim == 2:
        # Opened again when it is read: a folder has more files than a process may hold open.
        return [_LabelPage(path.name, partial(_labels, path, lambda: _open_tiff(path)[...]))]
    if volume.ndim != 3:
        raise FossilError(
            f"{path} holds no label images",
            expected="pages (z, y, x)",
            found=f"axes {volume.shape}",
        )
    return [
        _LabelPage(f"{path.name}#{z}", partial(_labels, path, partial(volume.__getitem__, z)))
        for z in range(volume.shape[0])
    ]


def _open_tiff(path: Path) -> zarr.Array[Any]:
    """Open the first series of a TIFF without reading it; pages are its chunks."""
    opened = zarr.open(tifffile.imread(path, aszarr=True), mode="r")
    # A pyramid is a group; its first level is the full resolution.
    return opened if isinstance(opened, zarr.Array) else next(a for _, a in opened.arrays())


def _open_image(path: Path) -> NDArray[Any]:
    """Read the stored values, also of an image with a palette."""
    with Image.open(path) as image:
        return np.asarray(image)


def _decoded(path: Path, decode: Callable[[], Any]) -> Any:
    """Call a decoder and name the file where it fails."""
    try:
        with explained(path, "Reading"):
            return decode()
    except _BROKEN as error:
        raise FossilError(
            f"{path} cannot be read", expected="a label image", found=str(error) or "a broken file"
        ) from error


def _labels(path: Path, decode: Callable[[], Any]) -> LabelArray:
    """Read labels (y, x) and check that they are some: photographs have colours or fractions."""
    labels = np.asarray(_decoded(path, decode))
    if labels.dtype == np.bool_:
        labels = labels.astype(np.uint8)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise FossilError(
            f"{path} holds no label image",
            expected="one whole number a pixel",
            found=f"{labels.dtype} of shape {labels.shape}",
        )
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise FossilError(
            f"{path} holds a negative label", expected="0 and above", found=int(labels.min())
        )
    return labels
