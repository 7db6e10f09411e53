"""Fewer faces for the same shape."""

from __future__ import annotations

from dataclasses import replace

import fast_simplification
import numpy as np

from napari_fossiledit.reef.surface import Surface

_ROUNDS = 4


def simplified(surface: Surface, max_faces: int) -> Surface:
    """Reduce a surface to about `max_faces` by quadric edge collapse (Garland, Heckbert 1997).

    Collapsing edges can tear thin walls. A result that is not closed is thrown away and tried
    again with twice the faces; where that never closes, the surface stays as it was.
    """
    wanted = max_faces
    for _ in range(_ROUNDS):
        if not 0 < wanted < len(surface.faces):
            break
        candidate = _collapsed(surface, wanted)
        if candidate.closed:
            return candidate
        wanted *= 2
    return surface


def _collapsed(surface: Surface, faces: int) -> Surface:
    # Single precision inside the library: keep the numbers small.
    origin = surface.vertices.mean(axis=0)
    points, triangles = fast_simplification.simplify(
        (surface.vertices - origin).astype(np.float32),
        surface.faces.astype(np.int32),
        target_count=faces,
    )
    return replace(surface, vertices=points + origin, faces=triangles.astype(np.int64))
