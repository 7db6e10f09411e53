"""Which body a cavity lies in, where the file does not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.masks.rle import intersections

#: Share of a cavity that must lie in a body; hand-clicked inner walls stray out a little.
_LEAST_SHARE = 0.5


def nested(cavities: Sequence[Instance], bodies: Sequence[Instance]) -> list[Instance]:
    """Give cavities the id of the body of their class they lie in as `Instance.parent`.

    A cavity with a specimen belongs to the body of the same specimen it shares most with; one
    without to the smallest body that holds at least half of it. Parents that are told already,
    and cavities that lie nowhere, stay as they are.

    Parameters
    ----------
    cavities, bodies
        Of one slice; bodies have ids.
    """
    return [_nested(c, bodies) if _is_orphan(c) else c for c in cavities]


def _is_orphan(item: Instance) -> bool:
    return item.part is Part.CAVITY and item.parent is None


def _nested(cavity: Instance, bodies: Sequence[Instance]) -> Instance:
    bodies = [b for b in bodies if b.class_name == cavity.class_name]
    same = [b for b in bodies if cavity.specimen is not None and b.specimen == cavity.specimen]
    if same:
        shared = _shared(cavity, same)
        return replace(cavity, parent=same[shared.index(max(shared))].id)
    anonymous = [b for b in bodies if cavity.specimen is None or b.specimen is None]
    least = _LEAST_SHARE * cavity.mask.area
    shared = _shared(cavity, anonymous)
    holding = [b for b, pixels in zip(anonymous, shared, strict=True) if pixels > least]
    if not holding:
        return cavity
    return replace(cavity, parent=min(holding, key=lambda b: b.mask.area).id)


def _shared(cavity: Instance, bodies: Sequence[Instance]) -> list[int]:
    return [int(n) for n in intersections([cavity.mask], [b.mask for b in bodies]).ravel()]
