"""Smooth random fields, continuous in three dimensions, evaluated one slice at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.params.sample import ReefParams

Image = NDArray[np.float32]

#: Nodes that a cubic B-spline reaches.
_TAPS = 4


def spline_weights(positions: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    """Compute cubic B-spline weights of lattice nodes at `positions`, of unit length per row.

    Rows of unit length keep the variance of a field of independent nodes the same everywhere.

    Parameters
    ----------
    positions
        (n,) places in lattice steps; place 0 lies between nodes 1 and 2.
    count
        Number of nodes.

    Returns
    -------
    (n, count) float32.
    """
    first = np.floor(positions).astype(int)
    f = positions - first
    taps = np.stack(
        [(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3], axis=1
    )
    taps /= np.linalg.norm(taps, axis=1, keepdims=True)
    weights = np.zeros((len(positions), count), np.float32)
    columns = first[:, None] + np.arange(_TAPS)
    np.put_along_axis(weights, columns, taps.astype(np.float32), axis=1)
    return weights


@dataclass(frozen=True)
class Lattice:
    """A random field of mean 0 and variance 1: cubic B-splines over a lattice of random nodes.

    Nodes are drawn layer by layer from the seed and the layer's number, so that any slice can be
    made at any time and nothing but the layers around it is ever held.

    Attributes
    ----------
    seed
        Numbers that name the field.
    scale_um, scale_z_um
        Steps of the lattice in the slice and through z.
    rows, columns
        Spline weights of the pixel rows and columns, (y, node) and (x, node).
    """

    seed: tuple[int, ...]
    scale_z_um: float
    rows: NDArray[np.float32]
    columns: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        seed: tuple[int, ...],
        scale_um: float,
        scale_z_um: float,
        shape: tuple[int, int],
        pixel_um: float,
    ) -> Lattice:
        """Prepare a field for slices of `shape` (y, x) with pixels of `pixel_um`."""
        rows, columns = ((np.arange(count) + 0.5) * pixel_um / scale_um for count in shape)
        weights = [spline_weights(p, int(p[-1]) + _TAPS + 1) for p in (rows, columns)]
        return cls(seed, scale_z_um, *weights)

    def at(self, z_um: float) -> NDArray[np.float32]:
        """Compute the field in the slice at depth `z_um`: (y, x) float32."""
        place = z_um / self.scale_z_um
        first = int(np.floor(place))
        taps = spline_weights(np.array([place - first]), _TAPS)[0]
        nodes = sum(tap * self._layer(first + k) for k, tap in enumerate(taps))
        return np.asarray(self.rows @ nodes @ self.columns.T, np.float32)

    def _layer(self, number: int) -> NDArray[np.float32]:
        # numpy takes no negative seed, which depths above the first slice would give.
        rng = np.random.default_rng((*self.seed, number + 1_000_000))
        shape = (self.rows.shape[1], self.columns.shape[1])
        return rng.standard_normal(shape, dtype=np.float32)


#: Lattice steps in um, in the slice and through z, of the fields that everything is drawn from.
_FIELDS = {
    "broad": (6000.0, 8000.0),
    "medium": (1500.0, 3500.0),
    "small": (520.0, 1800.0),
    "fine": (150.0, 900.0),
    "crumbs": (260.0, 700.0),
    "cracks": (3600.0, 9000.0),
    "warp_x": (800.0, 3000.0),
    "warp_y": (800.0, 3000.0),
}


@dataclass(frozen=True)
class Fields:
    """The random fields of one slice: each (y, x) float32 of mean 0 and variance 1."""

    broad: Image
    medium: Image
    small: Image
    fine: Image
    crumbs: Image
    cracks: Image
    warp_x: Image
    warp_y: Image
    grain: Image

    def window(self, window: tuple[slice, slice]) -> Fields:
        """Return the part of every field in a window."""
        return Fields(**{name: value[window] for name, value in vars(self).items()})


class FieldSource:
    """Computes the fields of any slice of a reef."""

    def __init__(self, params: ReefParams) -> None:
        shape = params.shape_zyx[1:]
        self._seed, self._shape = params.seed, shape
        self._lattices = {
            name: Lattice.of((params.seed, 2, i), scale, deep, shape, params.pixel_size_um)
            for i, (name, (scale, deep)) in enumerate(_FIELDS.items())
        }

    def at(self, z: int, z_um: float) -> Fields:
        """Return the fields of slice `z` at depth `z_um`; `grain` alone is drawn anew for each."""
        rng = np.random.default_rng((self._seed, 3, z))
        grain = rng.standard_normal(self._shape, dtype=np.float32)
        fields = {name: lattice.at(z_um) for name, lattice in self._lattices.items()}
        return Fields(**fields, grain=grain)
