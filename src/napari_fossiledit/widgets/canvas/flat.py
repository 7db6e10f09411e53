"""Arrays that are only ever shown slice by slice, also after a press on napari's 3D button."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError


class ArrayLike(Protocol):
    """Part of an array that napari reads of a layer's data."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""

    @property
    def dtype(self) -> Any:
        """Data type of an element."""

    def __getitem__(self, key: Any) -> Any: ...


class FlatArray:
    """An array (z, y, x[, 3]) that returns nothing but slices while the viewer shows 3D.

    napari reacts to its 3D button before any plugin can: it reads every visible layer as a whole,
    in the window's own thread. It gets a single empty voxel instead; the layer is hidden right
    after (see `ViewLayers`). In 2D every read and write goes to the wrapped array; what cannot be
    read is black, and a message says why.

    Parameters
    ----------
    in_3d
        Returns whether the viewer shows 3D.
    """

    def __init__(self, array: ArrayLike, in_3d: Callable[[], bool]) -> None:
        self.array, self._in_3d = array, in_3d
        self._failed = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the axes."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        """Data type of an element."""
        return self.array.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, int | np.integer):
            return _OneSlice(self, int(key))
        parts = key if isinstance(key, tuple) else (key,)
        is_volume = len(parts) >= 3 and all(isinstance(part, slice) for part in parts[:3])
        if is_volume and self._in_3d():
            return np.zeros((1, 1, 1, *self.shape[3:]), dtype=self.dtype)
        try:
            part: Any = self.array[key]
            if is_volume and parts[0] == slice(None) and hasattr(part, "compute"):
                # Of layers of several resolutions napari takes a part of all slices, then one of
                # them: reading it here would read the whole stack for each slice that is shown.
                return FlatArray(part, self._in_3d)
            found = np.asarray(part)
        except FossilError as error:
            # Out of here it would end in napari's slider, which then shows one slice and names
            # another. A slice is read for its thumbnail, too: it is told once.
            if str(error) != self._failed:
                self._failed = str(error)
                # It loads Qt, which readers of files do without.
                from napari_fossiledit.widgets.common.notices import show_error

                show_error(error)
            return np.broadcast_to(np.zeros((), self.dtype), self.shape)[key]
        self._failed = ""
        return found

    def __setitem__(self, key: Any, value: Any) -> None:
        array: Any = self.array
        array[key] = value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)


class _OneSlice:
    """One slice of an array, which is only read where a value of it is asked for.

    napari takes ``data[0].dtype`` for each control of a layer, and at each stamp of the brush.
    """

    def __init__(self, array: ArrayLike, z: int) -> None:
        self._array, self._z = array, z
        self.shape, self.dtype, self.ndim = array.shape[1:], array.dtype, len(array.shape) - 1

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array[self._z,], dtype=dtype, copy=copy)
