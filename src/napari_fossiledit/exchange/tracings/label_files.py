"""Label images on disk: one value a pixel, one image or page a slice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import zarr
from natsort import natsorted
from numpy.typing import NDArray
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained

LabelArray = NDArray[np.integer[Any]]

SUFFIXES = (".png", ".tif", ".tiff")
_TIFF = (".tif", ".tiff")
_BROKEN = (ValueError, TypeError, KeyError, IndexError, SyntaxError, EOFError, RuntimeError)


class LabelPage(NamedTuple):
    """One label image that was not read yet.

    Attributes
    ----------
    name
        File name, or ``"stack.tif#12"`` for a page.
    read
        Reads the labels (y, x).
    """

    name: str
    read: Callable[[], LabelArray]


def label_pages(path: Path) -> list[LabelPage]:
    """Find the label images of a folder (in natural order), the pages of a TIFF, or one image.

    Raises
    ------
    FossilError
        Where there is none, or a TIFF cannot be opened.
    """
    if path.is_dir():
        files = [f for f in path.iterdir() if f.suffix.lower() in SUFFIXES]
        pages = [p for f in natsorted(files, key=lambda f: f.name) for p in _pages_of(f)]
        if not pages:
            raise FossilError(
                f"{path} holds no label image", expected="PNG or TIFF files", found="none"
            )
        return pages
    return _pages_of(path)


def _pages_of(path: Path) -> list[LabelPage]:
    if path.suffix.lower() not in _TIFF:
        return [LabelPage(path.name, lambda: _checked(path, _read_image(path)))]
    volume = _decoded(path, lambda: _open_tiff(path))
    if volume.ndim == 2:
        # Opened again when it is read: a folder has more files than a process may hold open.
        return [LabelPage(path.name, lambda: _checked(path, _decoded(path, _whole(path))))]
    if volume.ndim != 3:
        raise FossilError(
            f"{path} holds no label images",
            expected="pages (z, y, x)",
            found=f"axes {volume.shape}",
        )
    return [_page(path, volume, z) for z in range(volume.shape[0])]


def _page(path: Path, volume: zarr.Array[Any], z: int) -> LabelPage:
    return LabelPage(
        f"{path.name}#{z}",
        lambda: _checked(path, _decoded(path, lambda: np.asarray(volume[z]))),
    )


def _whole(path: Path) -> Callable[[], LabelArray]:
    return lambda: np.asarray(_open_tiff(path)[...])


def _open_tiff(path: Path) -> zarr.Array[Any]:
    """Open the first series of a TIFF without reading it; pages are its chunks."""
    found = zarr.open(tifffile.imread(path, aszarr=True), mode="r")
    # A pyramid is a group; its first level is the full resolution.
    return found if isinstance(found, zarr.Array) else next(a for _, a in found.arrays())


def _read_image(path: Path) -> LabelArray:
    """Read the stored values, also of an image with a palette."""

    def read() -> LabelArray:
        with Image.open(path) as image:
            return np.asarray(image)

    return np.asarray(_decoded(path, read))


def _decoded(path: Path, read: Callable[[], Any]) -> Any:
    """Call a decoder and name the file where it fails."""
    try:
        with explained(path, "Reading"):
            return read()
    except (*_BROKEN, tifffile.TiffFileError) as error:
        raise FossilError(
            f"{path} cannot be read", expected="a label image", found=str(error) or "a broken file"
        ) from error


def _checked(path: Path, labels: NDArray[Any]) -> LabelArray:
    """Refuse photographs: labels are one whole number a pixel."""
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
