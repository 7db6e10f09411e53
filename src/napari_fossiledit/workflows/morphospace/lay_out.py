"""Lay items out in a plane, and measure how much of the space of forms they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages.charts import line_chart, scatter_chart
from napari_fossiledit.files import write_json, write_whole
from napari_fossiledit.morphospace import disparity as measured
from napari_fossiledit.morphospace.disparity import Group, Rarefied, Rows, Space
from napari_fossiledit.morphospace.maps import make_map
from napari_fossiledit.params.morphospace import Colour, DisparityParams, MapParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary, plain
from napari_fossiledit.workflows.morphospace.points import Points, read_points

_TITLES = {
    "sum_of_variances": "Sum of variances",
    "hull_volume": "Volume of the hull",
    "occupied": "Share of the map",
}


@dataclass(frozen=True)
class MapResult(Summary):
    """A map of items.

    Attributes
    ----------
    embedding
        Name of the embedding.
    items
        How many of its items are on the map.
    placed
        How many of them were placed among those that were there; None of a new map.
    file, picture
        The map, and a PNG of it.
    notes
        What was left out or assumed, in sentences.
    """

    embedding: str
    items: int
    placed: int | None
    file: Path
    picture: Path
    notes: tuple[str, ...]


def lay_out(source: Path, params: MapParams, *, job: Job = QUIET) -> MapResult:
    """Make a map on which items that look alike lie near one another, and draw it.

    Where there is a map of the same model and method, new items are placed on it and no other one
    moves.

    Raises
    ------
    FossilError
        Where there are too few items, or all look the same.
    """
    points = read_points(source, params.embedding)
    old = None if params.anew else points.map()
    notes, placed = list(points.notes), None
    if old is not None and old.method is params.method:
        made, placed = old.extended(points.embedding, job)
        notes.append(
            f"{placed} items were placed on the map that was there (perplexity"
            f" {made.perplexity:g}, seed {made.seed}); no other one moved."
        )
    else:
        made = make_map(
            points.embedding,
            method=params.method,
            perplexity=params.perplexity,
            seed=params.seed,
            job=job,
        )
    notes += made.notes
    file, picture = points.path("map.npz"), points.path("map.png")
    made.save(file)
    places = [made.points[row] for row in made.rows_of(points.embedding) if row is not None]
    write_whole(picture, scatter_chart(np.array(places), _colours(points, params.colour, notes)))
    return MapResult(params.embedding, len(places), placed, file, picture, tuple(notes))


def _colours(points: Points, colour: Colour, notes: list[str]) -> list[Any]:
    values = points.table(with_map=False)[colour]
    if all(value is None for value in values):
        notes.append(f"The items have no {colour}: all are grey.")
    return [f"cluster {v}" if colour is Colour.CLUSTER and v is not None else v for v in values]


@dataclass(frozen=True)
class DisparityResult(Summary):
    """How diverse the forms of classes and of neighbouring slices are.

    Attributes
    ----------
    embedding
        Name of the embedding.
    classes, specimens
        Figures of each class, at so many specimens of each.
    windows, window_specimens
        The same of slices that are taken together, by the middle one; none of a folder.
    hull_share
        Share of all variance in the principal components that the hull is taken in.
    file, pictures
        All figures (JSON), and charts.
    notes
        What was left out or assumed, in sentences.
    """

    embedding: str
    classes: tuple[Group, ...]
    specimens: int
    windows: tuple[Group, ...]
    window_specimens: int
    hull_share: float
    file: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...]


def disparity(source: Path, params: DisparityParams, *, job: Job = QUIET) -> DisparityResult:
    """Measure how diverse the forms of classes are, and those of neighbouring slices.

    Figures are those of the vectors of the embedding, at equal numbers of specimens.

    Raises
    ------
    FossilError
        Where no class, and no window, has enough specimens.
    """
    points = read_points(source, params.embedding)
    items, notes = points.embedding.items, list(points.notes)
    groups, made = [item.group for item in items], points.map()
    rows = [] if made is None else made.rows_of(points.embedding)
    on_map = made is not None and None not in rows
    if not on_map:
        notes.append("The items are not all on a map: the share that they occupy is left out.")
    places = made.points[[r for r in rows if r is not None]] if made and on_map else None
    space = Space(points.embedding.vectors, places, params.components)
    names = sorted({item.name for item in items if item.name is not None})
    classes: dict[str, Rows] = {
        name: np.array([n for n, item in enumerate(items) if item.name == name]) for name in names
    }
    windows = measured.windows([item.slice for item in items], params.window)
    found: list[tuple[tuple[Group, ...], int]] = []
    for what, members in (("classes", classes), ("windows of slices", windows)):
        compared, size, left_out = measured.compare(
            space,
            members,
            groups,
            least=params.least,
            draws=params.draws,
            seed=params.seed,
            job=job,
        )
        found.append((compared, size))
        if left_out:
            notes.append(
                f"{len(left_out)} {what} with fewer than {params.least} specimens are left out."
            )
    (of_classes, size), (of_windows, window_size) = found
    if not (of_classes or of_windows):
        raise FossilError(
            "There is nothing to compare",
            expected=f"a class or {params.window} slices with at least {params.least} specimens",
            found=f"{len(items)} items of {len({*groups})} specimens, {len(names)} classes",
            advice="Name or link more of them, or ask for fewer with --least.",
        )
    notes.append(
        f"The hull is that of {params.components} principal components, which hold"
        f" {space.hull_share:.0%} of the variance."
    )
    curves = {
        title: {
            g.name: measured.curve(statistic, classes[g.name], groups, seed=params.seed)
            for g in of_classes
        }
        for title, statistic in space.statistics.items()
    }
    by_slice = {t: {int(w.name): w.figures[t] for w in of_windows} for t in curves}
    pictures = []
    for title, lines in curves.items():
        if of_classes:
            pictures.append(_drawn(points, title, "", lines, "Specimens drawn"))
        if of_windows:
            pictures.append(_drawn(points, title, "-by-slice", {"All": by_slice[title]}, "Slice"))
    file = points.path("disparity.json")
    result = DisparityResult(
        params.embedding,
        of_classes,
        size,
        of_windows,
        window_size,
        space.hull_share,
        file,
        tuple(pictures),
        tuple(notes),
    )
    how = {"params": params.model_dump(mode="json"), "model_hash": points.embedding.model_hash}
    write_json(file, result.summary() | how | {"curves": plain(curves)})
    return result


def _drawn(
    points: Points, title: str, by: str, lines: Mapping[str, Mapping[int, Rarefied]], x: str
) -> Path:
    path = points.path(f"disparity-{title.replace('_', '-')}{by}.png")
    known = {
        name: [(float(n), f.value, f.interval) for n, f in line.items() if f.value is not None]
        for name, line in lines.items()
    }
    curves = {name: [(n, value) for n, value, _ in line] for name, line in known.items() if line}
    bands = {name: [i for *_, i in line if i is not None] for name, line in known.items() if line}
    write_whole(path, line_chart(curves, x, _TITLES[title], bands=bands))
    return path
