"""A stack of serial sections: what all kinds of stacks share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import check_slice
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.pixels import Format, Pixels, format_of

if TYPE_CHECKING:
    import dask.array as da


#: From that size on free memory is looked at before a slice is decoded.
_LARGE_BYTES = 256 * 2**20
# The pixels, and the file or an upright copy beside them.
_DECODING = 2


class StackRecord(BaseModel):
    """All that is needed to open a stack again without reading every slice.

    Attributes
    ----------
    kind
        ``"folder"``, ``"image"``, ``"tiff"``, ``"zarr"`` or another kind of `open_stack`.
    path
        The folder or file the stack was opened from.
    names
        One name per slice, in stack order: file name, or ``"stack.tif#12"``.
    shape
        (z, y, x) or (z, y, x, 3).
    dtype
        ``"uint8"`` or ``"uint16"``.
    rgb
        True where slices have three colour channels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    path: Path
    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    rgb: bool

    @property
    def format(self) -> Format:
        """Size, colours and dtype that the slices have in common."""
        return Format((self.shape[1], self.shape[2]), self.rgb, self.dtype)


class SuggestedGeometry(NamedTuple):
    """Voxel size that a file states; the user decides whether to use it.

    Attributes
    ----------
    pixel_size_um, slice_spacing_um
        Sizes in um, None where the file states none.
    origin
        Where the figures are from, for the user.
    """

    pixel_size_um: float | None
    slice_spacing_um: float | None
    origin: str


class SectionStack(ABC):
    """A stack of equally sized slices, read one at a time: a record, a cache and a decoder.

    The terms are those of `StackRecord`.

    Parameters
    ----------
    record
        The stack as it was checked; a slice that differs raises an error when it is read.
    cache
        Where slices are kept; by default a new one of `DEFAULT_CACHE_BYTES`.
    """

    def __init__(self, record: StackRecord, cache: SliceCache | None = None) -> None:
        self._record = record
        self.cache = SliceCache() if cache is None else cache

    @property
    def kind(self) -> str:
        """How the stack is stored, see `open_stack`."""
        return self._record.kind

    @property
    def path(self) -> Path:
        """Folder or file the stack was opened from."""
        return self._record.path

    @property
    def names(self) -> tuple[str, ...]:
        """One name per slice."""
        return self._record.names

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) or (z, y, x, 3)."""
        return self._record.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of a pixel, uint8 or uint16."""
        return np.dtype(self._record.dtype)

    @property
    def rgb(self) -> bool:
        """True where slices have three colour channels."""
        return self._record.rgb

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def slice_bytes(self) -> int:
        """Bytes of a slice in memory."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def record(self) -> StackRecord:
        """Return what opens the stack again without reading its slices."""
        return self._record

    def read(self, z: int) -> Pixels:
        """Read slice `z`, counted from 0.

        Returns
        -------
        array (y, x) or (y, x, 3) of uint8 or uint16
            Read-only, because the cache shares it.

        Raises
        ------
        FossilError
            Where the slice is not in the stack, cannot be decoded, or has changed its size.
        """
        check_slice(z, len(self), str(self.path))
        pixels = self.cache.get(z)
        if pixels is None:
            if self.slice_bytes > _LARGE_BYTES:
                require_memory(_DECODING * self.slice_bytes, f"slice {z} of {self.path}")
            pixels = self._decode(z)
            if format_of(pixels) != self._record.format:
                raise FossilError(
                    f"Slice {z} ({self.names[z]}) of {self.path} does not fit the stack",
                    expected=self._record.format,
                    found=format_of(pixels),
                    advice="Put the old file back, or make a new project from the changed stack.",
                )
            pixels.setflags(write=False)
            self.cache.put(z, pixels)
        return pixels

    def stamp(self, z: int) -> str:
        """Return size and time of the files that hold slice `z`; empty where there are none."""
        return _stamp(self._files(z))

    def _files(self, z: int) -> list[Path]:
        """Return the files that hold slice `z`."""
        return [self.path]

    def lazy(self) -> da.Array:
        """Wrap the stack (z, y, x[, 3]) in a dask array of one chunk a slice."""
        return as_dask(self)

    def levels(self) -> list[da.Array]:
        """Return the resolutions that are stored, finest first; here the full one alone."""
        return [self.lazy()]

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size that the files state, None where they state none."""
        return None

    def warnings(self) -> list[str]:
        """Return how files are interpreted, what is left out, and what is odd about them."""
        return []

    def close(self) -> None:
        """Close files and forget cached slices; a later `read` opens them again."""
        self.cache.clear()

    @abstractmethod
    def _decode(self, z: int) -> Pixels:
        """Read slice `z`, which is in the stack, from the file."""


def _stamp(files: list[Path]) -> str:
    found = []
    for file in files:
        # One that is missing changes the number.
        with suppress(OSError):
            found.append(file.stat())
    if not files:
        return ""
    size, latest = sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0)
    return f"{len(found)} files, {size} bytes, {latest} ns"


class Readable(Protocol):
    """Anything of equally sized slices that are read one at a time."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) or (z, y, x, 3)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of a pixel."""

    def read(self, z: int) -> NDArray[Any]:
        """Return the pixels (y, x) or (y, x, 3) of slice `z`."""


def as_dask(source: Readable) -> da.Array:
    """Wrap slices in a dask array (z, y, x[, 3]) of one chunk a slice; nothing is read yet."""
    import dask.array as da

    # Without name=False, dask would read every slice to compute a hash.
    meta = np.empty((0,) * len(source.shape), dtype=source.dtype)
    chunks = (1, *source.shape[1:])
    array: da.Array = da.from_array(_Sliceable(source), chunks=chunks, name=False, meta=meta)
    return array


class _Sliceable:
    """Slices as dask indexes them: a chunk, or a part of a chunk."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self.shape, self.dtype, self.ndim = source.shape, source.dtype, len(source.shape)

    def __getitem__(self, key: tuple[int | slice, ...]) -> NDArray[Any]:
        z, rest = key[0], key[1:]
        if isinstance(z, slice):
            # A chunk is one slice, so a new axis will do and nothing is copied.
            return self._source.read(z.indices(self.shape[0])[0])[rest][np.newaxis]
        return self._source.read(int(z))[rest]


def require_memory(
    need: float,
    what: str,
    advice: str = "Close other programs, or make the images smaller: slices are read whole, and "
    "half the edge takes a quarter of the memory.",
) -> None:
    """Raise where something takes more memory than the computer has left.

    Parameters
    ----------
    need
        Bytes.
    what
        What takes them, for the message.
    advice
        What to do where they are not there.

    Raises
    ------
    FossilError
        With both figures.
    """
    free = psutil.virtual_memory().available
    if need > free:
        raise FossilError(
            f"The memory does not suffice for {what}",
            expected=f"about {need / 1e9:.1f} GB free",
            found=f"{free / 1e9:.1f} GB",
            advice=advice,
        )


@contextmanager
def named(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn the errors of a decoder into a `FossilError` that names the slice or file."""
    try:
        yield
    except errors as error:
        raise FossilError(
            f"{what} cannot be read",
            expected="a complete image",
            found=getattr(error, "strerror", None) or str(error) or type(error).__name__,
            advice="Copy the file again from the original, or take it out of the stack.",
        ) from error
