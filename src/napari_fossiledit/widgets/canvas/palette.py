"""Colours for instances: which stand out from the rock, and which instance gets which.

Nothing here imports napari or Qt: it runs in a thread or a process as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.specimens import SpecimenKey, read_specimens
from napari_fossiledit.workflows.shared.stack_values import StackValues

Floats = NDArray[np.float64]
Closeness = list[dict[int, float]]

#: Colours of a palette: more would not be 25 apart once they are blended with the rock.
COUNT = 10
#: Opacity of fills for which the palette is chosen.
FILL = 0.7
#: Colours (10, 3) before the rock was looked at; they were chosen against red-brown rock.
DEFAULT: Floats = (
    np.array(
        [
            (0, 255, 0),
            (223, 0, 255),
            (128, 255, 255),
            (255, 64, 96),
            (191, 128, 223),
            (255, 255, 159),
            (223, 96, 0),
            (0, 223, 159),
            (223, 32, 159),
            (96, 223, 64),
        ]
    )
    / 255
)

# CIE76 distances that a fill keeps from 95 % of the rock's pixels. 30 is asked for around a mask;
# pixels of the rock differ more than the rock around one mask does.
_FROM_ROCK = 33.0
# A dark or dull fill looks like rock in a shadow, however far it is in numbers.
_BRIGHT, _LIGHT = 0.85, 50.0
# How people see who lack the long or the middle cones (Machado, Oliveira, Fernandes 2009, in
# linear RGB). Their world of colours is flat: there, half of the distance has to do.
_COLOUR_BLIND = np.array(
    [
        [(0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052)],
        [(0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969)],
    ]
)
_STEPS, _SAMPLED_SLICES, _SAMPLED_PIXELS = 9, 3, 500
# Two instances are neighbours below this distance of their centres, in sums of their radii.
_NEAR = 2.0


def rock_colours(project_path: Path, *, job: Job = QUIET) -> Floats:
    """Return colours (n, 3) from 0 to 1 of a few slices, as the window shows them."""
    with Project.open(project_path, read_only=True) as project:
        span = StackValues(project).span
        last = project.shape[0] - 1
        slices = sorted({round(n * last / (_SAMPLED_SLICES - 1)) for n in range(_SAMPLED_SLICES)})
        read = [np.asarray(project.stack.read(z)) for z in job.tracked(slices, len(slices), "Rock")]
    channels = 3 if read[0].ndim == 3 else 1
    pixels = [p.reshape(-1, channels) for p in read]
    sampled = np.concatenate([p[:: max(1, len(p) // _SAMPLED_PIXELS)] for p in pixels])
    black, white = span
    scaled = (sampled.astype(np.float64) - black) / max(white - black, 1)
    return np.broadcast_to(np.clip(scaled, 0, 1), (len(sampled), 3)).copy()


def choose_palette(rock: Floats, opacity: float = FILL) -> Floats:
    """Return colours (`COUNT`, 3) that stand out from rock and from each other, the best first.

    Each is as far as possible from those before it, seen as a fill over the rock: by everybody
    in CIE76, and by people who are colour-blind.

    Parameters
    ----------
    rock
        Colours (n, 3) from 0 to 1.
    """
    from skimage.color import deltaE_cie76, rgb2lab

    steps = np.linspace(0, 1, _STEPS)
    candidates = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    bright = (candidates.max(axis=1) >= _BRIGHT) & (rgb2lab(candidates)[:, 0] >= _LIGHT)
    candidates = candidates[bright]
    rock_lab = rgb2lab(rock)
    filled = (rgb2lab(opacity * c + (1 - opacity) * rock) for c in candidates)
    from_rock = np.array([np.percentile(deltaE_cie76(f, rock_lab), 5) for f in filled])
    # Rock may hold every colour: then the best third is what there is.
    standing_out = from_rock >= min(_FROM_ROCK, float(np.percentile(from_rock, 67)))
    candidates, from_rock = candidates[standing_out], from_rock[standing_out]
    over = opacity * candidates + (1 - opacity) * rock.mean(axis=0)
    plain, *blind = (rgb2lab(c) for c in (over, *(_seen_by(over, m) for m in _COLOUR_BLIND)))

    def apart(n: int) -> Floats:
        to = [deltaE_cie76(plain, plain[n]), *(2 * deltaE_cie76(b, b[n]) for b in blind)]
        return np.asarray(np.min(to, axis=0))

    chosen = [int(np.argmax(from_rock))]
    nearest = apart(chosen[0])
    while len(chosen) < COUNT:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, apart(chosen[-1]))
    return np.asarray(candidates[chosen])


def _seen_by(rgb: Floats, cones: Floats) -> Floats:
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ cones.T, 0, 1)
    return np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)


def closeness(boxes: NDArray[np.int64], areas: NDArray[np.int64]) -> Closeness:
    """Return for each instance its neighbours in the slice, with how close they are.

    Neighbours touch, or have no more than about two radii of rock between them.

    Parameters
    ----------
    boxes
        Array (n, 4) of y0, x0, y1, x1.
    areas
        Array (n,) in pixels.
    """
    radii = np.sqrt(np.maximum(areas, 1) / np.pi)
    y, x = ((boxes[:, n] + boxes[:, n + 2]) / 2 for n in (0, 1))
    away = np.hypot(y[:, None] - y, x[:, None] - x) / (radii[:, None] + radii)
    touching = np.ones(away.shape, np.bool_)
    for low, high in ((0, 2), (1, 3)):
        before = boxes[:, low, None] - 2 < boxes[:, high] + 2
        touching &= before & before.T
    close = 1 / np.where(touching, np.minimum(away, 1.0), away).clip(0.1)
    near = touching | (away <= _NEAR)
    np.fill_diagonal(near, val=False)
    neighbours: Closeness = [{} for _ in boxes]
    pairs = np.nonzero(near)
    for n, m, how in zip(*(p.tolist() for p in pairs), close[pairs].tolist(), strict=True):
        neighbours[n][m] = how
    return neighbours


def choose_indices(
    neighbours: Closeness, preferred: Sequence[int], order: Iterable[int], fixed: Iterable[int] = ()
) -> list[int]:
    """Return an index from 0 to `COUNT` - 1 for each item, other than those of its neighbours.

    Parameters
    ----------
    neighbours
        Of each item, with their closeness; where all indices are taken, the one whose bearer is
        least close is used again.
    preferred
        Index that each item takes where none of its neighbours has it.
    order
        Items in the order in which they choose.
    fixed
        Items that have their preferred index whatever their neighbours have.
    """
    chosen = {n: preferred[n] for n in fixed}
    used = np.bincount(list(chosen.values()), minlength=COUNT).astype(np.float64)
    for n in order:
        if n in chosen:
            continue
        cost = np.zeros(COUNT)
        for other, close in neighbours[n].items():
            if other in chosen:
                cost[chosen[other]] = max(cost[chosen[other]], close)
        # Among those that are free the one that is used least: all are used alike.
        index = preferred[n] if cost[preferred[n]] == 0 else int(np.lexsort((used, cost))[0])
        chosen[n] = index
        used[index] += 1
    return [chosen[n] for n in range(len(neighbours))]


def boxes_of(instances: Iterable[Instance]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return boxes (n, 4) and areas (n,) of masks, in pixels."""
    found = [(*i.mask.box, i.mask.area) for i in instances]
    table = np.array(found, dtype=np.int64).reshape(-1, 5)
    return table[:, :4], table[:, 4]


def overlaps(boxes: NDArray[np.int64], others: NDArray[np.int64]) -> Floats:
    """Return the intersection over union (n, m) of boxes (y0, x0, y1, x1)."""
    # Axis by axis: arrays (n, m, 2) take six times as long.
    common = np.ones((len(boxes), len(others)), np.int64)
    for low, high in ((0, 2), (1, 3)):
        shared = np.minimum(boxes[:, high, None], others[:, high])
        shared -= np.maximum(boxes[:, low, None], others[:, low])
        common *= np.maximum(shared, 0, out=shared)
    sizes = [np.prod(b[:, 2:] - b[:, :2], axis=1) for b in (boxes, others)]
    return np.asarray(common / np.maximum(sizes[0][:, None] + sizes[1][None] - common, 1))


def specimen_indices(
    project_path: Path, known: Mapping[int, int], *, job: Job = QUIET
) -> tuple[dict[SpecimenKey, int], dict[int, int]]:
    """Return the index of each specimen that was linked last, and of each of its instances by id.

    Parameters
    ----------
    known
        Index that instances have at present, by id: specimens take over that of most of their
        sections.
    """
    with Project.open(project_path, read_only=True) as project:
        try:
            specimens = read_specimens(project, "")
        except FossilError:
            return {}, {}
        keys = specimens.keys
        sections: dict[int, list[tuple[int, Instance]]] = {}
        for n, key in enumerate(job.tracked(keys, len(keys), "Reading specimens")):
            for instance in specimens.instances(key):
                sections.setdefault(instance.slice, []).append((n, instance))
    neighbours: Closeness = [{} for _ in keys]
    votes = np.zeros((len(keys), COUNT))
    for found in sections.values():
        around = closeness(*boxes_of(i for _, i in found))
        for (n, instance), near in zip(found, around, strict=True):
            for place, close in near.items():
                other = found[place][0]
                if other != n:
                    neighbours[n][other] = max(neighbours[n].get(other, 0.0), close)
            index = known.get(instance.id or 0)
            if index is not None:
                votes[n][index] += instance.mask.area
    preferred = [int(v.argmax()) if v.any() else n % COUNT for n, v in enumerate(votes)]
    order = sorted(range(len(keys)), key=lambda n: -len(neighbours[n]))
    chosen = choose_indices(neighbours, preferred, order)
    return (
        dict(zip(keys, chosen, strict=True)),
        {id_: chosen[n] for n, key in enumerate(keys) for id_ in specimens.ids[key]},
    )
