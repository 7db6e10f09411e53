"""Plots of branches and of a reef, after Figures 3 and 4 of Manzuk et al. (2022, Geobiology)."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.exchange.pages.charts import blank_figure
from napari_fossiledit.reef.measure import SpecimenRow
from napari_fossiledit.reef.orientation import azimuth_and_inclination
from napari_fossiledit.reef.stereology import Cubes

Table = Sequence[Mapping[str, Any]]
FloatArray = NDArray[np.float64]

_COLOUR, _OTHER = "#8c4a35", "#1f6f8b"
_SIZE = (11.0, 3.8)
_MM = 1000.0
_BINS = 24


def draw_plots(
    rows: Sequence[SpecimenRow],
    tables: Mapping[str, Table],
    frame: FloatArray,
    cubes: Cubes,
) -> dict[str, bytes]:
    """Draw the plots.

    Parameters
    ----------
    rows
        Specimens, with their centre lines.
    tables
        ``branches``, ``branch_points``, ``planes`` and ``classes``, as they are written.
    frame
        Turns (z, y, x) to (up, north, east), see `reef.orientation.field_frame`.
    cubes
        With the surface in each.

    Returns
    -------
    dict of PNG and SVG by file name
    """
    figures: dict[str, Callable[[Any], None]] = {
        "branching": lambda figure: _branching(figure, rows, tables),
        "directions": lambda figure: _directions(figure, rows, frame),
        "reef": lambda figure: _reef(figure, tables, cubes),
        "through_z": lambda figure: _through_z(figure, tables),
    }
    found = {}
    for name, draw in figures.items():
        figure = blank_figure(_SIZE)
        draw(figure)
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            # Without a date the same measurements give the same file.
            undated = {"Date": None} if kind == "svg" else None
            figure.savefig(buffer, format=kind, dpi=150, metadata=undated)
            found[f"{name}.{kind}"] = buffer.getvalue()
    return found


def _branching(figure: Any, rows: Sequence[SpecimenRow], tables: Mapping[str, Table]) -> None:
    """Radius along the branches, angles between them, and how long they are."""
    along, angles, thick = figure.subplots(1, 3)
    for branch in (b for row in rows for b in row.lines.branches):
        way = np.linalg.norm(np.diff(branch.points, axis=0), axis=1)
        place = np.concatenate([[0.0], np.cumsum(way)]) / _MM
        along.plot(place, branch.radii_um / _MM, color=_COLOUR, alpha=0.35, lw=1)
    along.set(xlabel="distance along the branch (mm)", ylabel="radius (mm)")
    known = [p["angle_deg"] for p in tables["branch_points"] if p["angle_deg"] is not None]
    angles.hist(known, bins=np.arange(0, 181, 15), color=_COLOUR, edgecolor="white")
    angles.set(xlabel="branch angle (degrees)", ylabel="branch points", xlim=(0, 180))
    angles.set_title(f"{len(known)} branch points", fontsize=10)
    branches = tables["branches"]
    thick.scatter(
        [b["radius_um"] / _MM for b in branches],
        [b["length_um"] / _MM for b in branches],
        s=12,
        color=_COLOUR,
        alpha=0.6,
    )
    thick.set(xlabel="radius (mm)", ylabel="length of the branch (mm)")


def _directions(figure: Any, rows: Sequence[SpecimenRow], frame: FloatArray) -> None:
    """Rose of the headings, stereogram (lower angles outside), and radius by inclination."""
    rose = figure.add_subplot(1, 3, 1, projection="polar")
    net = figure.add_subplot(1, 3, 2, projection="polar")
    thick = figure.add_subplot(1, 3, 3)
    branches = [b for row in rows for b in row.lines.branches]
    for axes in (rose, net):
        axes.set_theta_zero_location("N")
        axes.set_theta_direction(-1)
    axis = np.array([b.direction for b in branches]).reshape(-1, 3) @ frame.T
    azimuth, inclination = azimuth_and_inclination(axis)
    edges = np.radians(np.linspace(0, 360, _BINS + 1))
    counts, _ = np.histogram(np.radians(azimuth), edges)
    rose.bar(edges[:-1], counts, width=edges[1], align="edge", color=_COLOUR, edgecolor="white")
    rose.set_title(f"headings of {len(branches)} branches", fontsize=10)
    # Equal areas of the half sphere are equal areas here (Lambert, Schmidt).
    out = np.sqrt(2) * np.sin(np.radians(90 - inclination) / 2)
    net.scatter(np.radians(azimuth), out, s=12, color=_OTHER)
    rings = np.array([60, 30, 0])
    net.set(ylim=(0, 1), yticks=np.sqrt(2) * np.sin(np.radians(90 - rings) / 2))
    net.set_yticklabels([f"{r} deg" for r in rings], fontsize=7)
    net.set_title("directions, upwards, equal area", fontsize=10)
    thick.scatter(
        inclination, [b.radius_um / _MM for b in branches], s=12, color=_COLOUR, alpha=0.6
    )
    thick.set(xlabel="inclination (degrees)", ylabel="radius (mm)", xlim=(0, 90))


def _reef(figure: Any, tables: Mapping[str, Table], cubes: Cubes) -> None:
    """Spacing of the branches, their headings by height, and surface per volume in the cubes."""
    spacing, heading, surface = figure.subplots(1, 3)
    planes = [p for p in tables["planes"] if p["nearest_neighbour_mean_um"] is not None]
    height = [p["height_um"] / _MM for p in planes]
    spacing.plot([p["nearest_neighbour_mean_um"] / _MM for p in planes], height, color=_COLOUR)
    spacing.set(xlabel="nearest neighbour in the plane, mean (mm)", ylabel="height (mm)")
    heading.plot([p["heading_variance"] for p in planes], height, color=_OTHER)
    heading.set(xlabel="circular variance of the headings", ylabel="height (mm)", xlim=(0, 1))
    shares = cubes.surface_um2 / cubes.edge_um**3 * _MM
    surface.boxplot(shares)
    surface.set(ylabel="surface per volume (1/mm)", xticks=[])
    surface.set_title(f"{len(shares)} cubes of {cubes.edge_um / _MM:.3g} mm", fontsize=10)


def _through_z(figure: Any, tables: Mapping[str, Table]) -> None:
    """Share of each class through z, and branches crossed by height."""
    shares, crossed = figure.subplots(1, 2)
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in tables["classes"]:
        place = row["z_um"] / _MM, 100 * row["share_of_photograph"]
        curves.setdefault(row["class_name"], []).append(place)
    for name, points in sorted(curves.items()):
        shares.plot(*zip(*points, strict=True), label=name)
    shares.set(xlabel="z (mm)", ylabel="share of the photograph (%)", ylim=(0, None))
    if curves:
        shares.legend(frameon=False, fontsize=9)
    planes = tables["planes"]
    crossed.plot([p["height_um"] / _MM for p in planes], [p["branches"] for p in planes])
    crossed.set(xlabel="height (mm)", ylabel="branches in the plane", ylim=(0, None))
