"""Plots of distance and quality: what is in them, and how they are drawn in file and window."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.evaluation.numbers import Floats
from napari_fossiledit.exchange.pages.charts import INK, drawn
from napari_fossiledit.files import write_whole
from napari_fossiledit.progress import QUIET, Job

#: Okabe and Ito's colours, the blue lighter: they are seen on a white ground and on a dark one.
EXPECTED, DISTANCE, TRACED, SUGGESTED = "#2f8fce", "#d55e00", "#009e73", "#cc79a7"
_FONT_SIZE = 8
_LONGEST_NAME = 16
_MOST_VIOLINS = 6
#: Points of a font are as large as the window's then.
_DPI = 100
_DRAWING = threading.Lock()

Row = Mapping[str, Any]


class Plot(Protocol):
    """What can be drawn.

    Attributes
    ----------
    places
        Horizontal place of each slice that is in it; empty where a place means no slice.
    words
        What is seen, for whoever does not see it.
    """

    @property
    def places(self) -> Mapping[int, float]: ...  # noqa: D102

    @property
    def words(self) -> str: ...  # noqa: D102

    def draw(self, figure: Any, ink: str) -> None:
        """Draw into an empty figure of matplotlib; `ink` is the colour of axes and text."""


@dataclass(frozen=True)
class ByDistance:
    """F-score over distance, as in the paper's Figures 4 to 6.

    Attributes
    ----------
    slices, distances, f_scores
        (m,) slices from the nearest to the farthest, their distances from 0 to 1, their F-scores.
    """

    slices: tuple[int, ...]
    distances: Floats
    f_scores: Floats

    @classmethod
    def of(cls, rows: Sequence[Row]) -> ByDistance:
        """Take the slices among rows (``slice, distance, f_score``) of which all is known."""
        known = [r for r in rows if None not in (r.get("distance"), r.get("f_score"))]
        known.sort(key=lambda row: float(row["distance"]))
        columns = (np.array([float(r[k]) for r in known]) for k in ("distance", "f_score"))
        return cls(tuple(int(r["slice"]) for r in known), *columns)

    @property
    def window(self) -> int:
        """Slices of the moving average: a tenth of all, as in the paper."""
        return max(len(self.slices) // 10, 1)

    @property
    def average(self) -> tuple[Floats, Floats]:
        """Moving averages of distances and of F-scores over `window` slices."""
        box = np.full(self.window, 1 / self.window)
        return np.convolve(self.distances, box, "valid"), np.convolve(self.f_scores, box, "valid")

    @property
    def places(self) -> Mapping[int, float]:
        """Distance of each slice."""
        return dict(zip(self.slices, self.distances.tolist(), strict=True))

    @property
    def words(self) -> str:
        """Number of slices, and the F-scores of the nearest and of the farthest one."""
        if not self.slices:
            return "No traced slice has a distance."
        near, far = self.f_scores[[0, -1]]
        return f"{len(self.slices)} traced slices: F {near:.2f} nearest, {far:.2f} farthest"

    def draw(self, figure: Any, ink: str) -> None:
        """Draw a dot for each slice, and the moving average."""
        axes = figure.add_subplot(
            xlabel="Distance, from 0 (nearest) to 1 (farthest)",
            ylabel="F-score",
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
        )
        axes.plot(self.distances, self.f_scores, "o", color=TRACED, ms=4, label="F, traced")
        if self.window > 1:
            name = f"mean of {self.window} neighbours"
            axes.plot(*self.average, color=EXPECTED, lw=1.8, label=name)
        _finish(figure, axes, ink)


@dataclass(frozen=True)
class AlongZ:
    """Distance and quality along the stack.

    Attributes
    ----------
    rows
        ``slice, expected, low, high, distance, f_score``, by rising slice; None: not known.
    traced, suggested
        Slices that are traced, and those that are suggested or marked to be.
    """

    rows: tuple[Row, ...] = field(repr=False)
    traced: tuple[int, ...] = ()
    suggested: tuple[int, ...] = ()

    def column(self, name: str) -> Floats:
        """Return the values of a name, NaN where none is known."""
        values = (row.get(name) for row in self.rows)
        return np.array([np.nan if value is None else float(value) for value in values])

    @property
    def places(self) -> Mapping[int, float]:
        """Every slice at its number."""
        return {z: float(z) for z in (*(int(r["slice"]) for r in self.rows), *self.traced)}

    @property
    def words(self) -> str:
        """Number of slices, and the lowest F-score that is expected, with its slice."""
        known = [row for row in self.rows if row.get("expected") is not None]
        if not known:
            return "Of no slice it is known what to expect."
        worst = min(known, key=lambda row: float(row["expected"]))
        least = f"F {worst['expected']:.2f}, on slice {worst['slice']}"
        return f"{len(self.rows)} slices; the lowest that is expected is {least}"

    def draw(self, figure: Any, ink: str) -> None:
        """Draw the expected F-score with its interval, the distance, and marks of slices."""
        axes = figure.add_subplot(
            xlabel="Slice", ylabel="F-score, distance", ylim=(-0.06, 1.09), yticks=(0, 0.5, 1)
        )
        z, expected = self.column("slice"), self.column("expected")
        low, high, dots = self.column("low"), self.column("high"), "." if len(z) < 40 else ""
        axes.fill_between(z, low, high, color=EXPECTED, alpha=0.25, lw=0, label="90 % interval")
        axes.plot(z, expected, color=EXPECTED, lw=1.8, marker=dots, label="expected F")
        distance = self.column("distance")
        axes.plot(z, distance, color=DISTANCE, lw=1.2, ls="--", marker=dots, label="distance")
        axes.plot(z, self.column("f_score"), "o", color=TRACED, ms=5, label="F, traced")
        axes.plot(self.traced, [-0.03] * len(self.traced), "|", color=TRACED, ms=7)
        for n, pick in enumerate(self.suggested):
            label = "" if n else "to trace"
            axes.plot(pick, 1.05, "v", color=SUGGESTED, ms=6, label=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        _finish(figure, axes, ink)


@dataclass(frozen=True)
class Violins:
    """Distances of a stack to each model, and the F-score to expect, as in the paper's Figure 7.

    Attributes
    ----------
    rows
        Of each model: ``model, distances, expected, low, high, f_score``, best first; distances as
        shares of the length of the feature vectors, empty or None where they are not known.
    """

    rows: tuple[Row, ...] = field(repr=False)

    @property
    def places(self) -> Mapping[int, float]:
        """None: heights are models."""
        return {}

    @property
    def words(self) -> str:
        """Each model with the F-score to expect of it."""
        return "; ".join(
            f"{r['model']}: F {r['expected']:.2f} ({r['low']:.2f} to {r['high']:.2f})"
            for r in self.rows
        )

    def draw(self, figure: Any, ink: str) -> None:
        """Draw a violin and an interval for each model, the best one on top."""
        rows = self.rows[:_MOST_VIOLINS]
        heights = range(len(rows), 0, -1)
        left, right = figure.subplots(1, 2, sharey=True)
        for height, row in zip(heights, rows, strict=True):
            distances = row.get("distances") or ()
            # The density of equal values is not defined.
            if len({*distances}) > 1:
                made = left.violinplot(
                    distances, [height], orientation="horizontal", showmedians=True
                )
                for part in (*made.pop("bodies"), *made.values()):
                    part.set_color(DISTANCE)
            else:
                left.plot(distances, [height] * len(distances), "o", color=DISTANCE, ms=4)
            right.plot([row["low"], row["high"]], [height] * 2, color=EXPECTED, lw=5, alpha=0.35)
            right.plot(row["expected"], height, "o", color=EXPECTED, ms=5)
            if row.get("f_score") is not None:
                right.plot(row["f_score"], height, "D", color=TRACED, ms=5)
        left.set_yticks(heights, [_short(str(row["model"])) for row in rows])
        left.set(xlabel="Relative distance", xlim=(0, None), ylim=(0.4, len(rows) + 0.6))
        right.set(xlabel="Expected F (◆ traced)", xlim=(-0.03, 1.03))
        for axes in (left, right):
            _style(axes, ink)
            axes.locator_params(axis="x", nbins=3)
            axes.grid(axis="x", color=ink, alpha=0.25, lw=0.6)


@dataclass(frozen=True)
class Drawing:
    """A picture of a plot.

    Attributes
    ----------
    picture
        (y, x, 4) red, green, blue, opacity.
    columns
        Place of each slice from the left; of all lengths the unit is that of the asked size.
    rows
        Upper and lower end of the axes from the top.
    """

    picture: NDArray[np.uint8] = field(repr=False)
    columns: Mapping[int, float] = field(repr=False)
    rows: tuple[float, float]


def render(
    plot: Plot, size: tuple[int, int], ink: str, ratio: float, *, job: Job = QUIET
) -> Drawing:
    """Draw a plot on nothing, `size` (width, height) large, with `ratio` pixels a unit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Matplotlib is not made for several threads.
    with _DRAWING:
        job.check()
        inches = (size[0] / _DPI, size[1] / _DPI)
        figure = Figure(inches, dpi=_DPI * ratio, facecolor="none", layout="constrained")
        canvas = FigureCanvasAgg(figure)
        plot.draw(figure, ink)
        canvas.draw()
        axes = figure.axes[0]
        picture = np.array(canvas.buffer_rgba())
        places = {z: axes.transData.transform((x, 0))[0] / ratio for z, x in plot.places.items()}
        box = axes.get_window_extent()
        return Drawing(picture, places, (size[1] - box.y1 / ratio, size[1] - box.y0 / ratio))


def write(path: Path, plot: Plot) -> None:
    """Write a plot as PNG, on white.

    Raises
    ------
    FossilError
        Where it cannot be written.
    """
    write_whole(path, drawn(lambda figure: plot.draw(figure, INK)))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def _style(axes: Any, ink: str) -> None:
    axes.set_frame_on(False)
    axes.set_facecolor("none")
    axes.tick_params(colors=ink, labelsize=_FONT_SIZE, length=0)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=ink, fontsize=_FONT_SIZE)


def _finish(figure: Any, axes: Any, ink: str) -> None:
    _style(axes, ink)
    axes.grid(axis="y", color=ink, alpha=0.25, lw=0.6)
    figure.legend(
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=_FONT_SIZE,
        labelcolor=ink,
        columnspacing=1,
        handlelength=1.4,
    )
