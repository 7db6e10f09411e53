"""How far slices are from those that a model knows, and whether it does worse on far ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.relation import PixelCounts, Quality, Relation, relation
from napari_fossiledit.files import write_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.agenda import DistanceParams, ExpectParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.selection import Distances, distances
from napari_fossiledit.workflows.agenda import plots
from napari_fossiledit.workflows.agenda.features import Eye, look_at
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.ground_truth import judged_slice, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import EditRef, ModelRef
from napari_fossiledit.workflows.shared.sources import known_class

_SHOWN = 5


@dataclass(frozen=True)
class DistanceResult:
    """Distances of slices S from slices P.

    Attributes
    ----------
    model
        Whose features were compared.
    known, slices
        Slices P, and slices S in the order of `distances`.
    distances
        Of S from P.
    quality, relation
        F-scores of the slices of S that are traced, and how they go with distance; None where
        they were not asked for or cannot be had.
    report
        File with all figures, beside it the plot; None in a read-only project.
    notes
        What was assumed or left out, in sentences.
    """

    model: str
    known: tuple[int, ...]
    slices: tuple[int, ...]
    distances: Distances
    quality: Quality | None
    relation: Relation | None
    report: Path | None
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; of the slices the nearest and the farthest."""
        rows = sorted(self.rows(), key=lambda row: float(row["scaled"]))
        return {
            **self._figures(),
            "nearest": rows[:_SHOWN],
            "farthest": rows[: -_SHOWN - 1 : -1],
            "report": None if self.report is None else str(self.report),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def full(self) -> dict[str, Any]:
        """Return the result as JSON-able values with every slice."""
        return {**self._figures(), "notes": list(self.notes), "distances": self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """Return distances, and the F-score where it is known, of each slice."""
        quality = self.quality
        scores = dict(zip(quality.slices, quality.f_scores, strict=True)) if quality else {}
        columns = (self.distances.sums, self.distances.means, self.distances.scaled)
        return [
            {"slice": z, "sum": total, "mean": mean, "scaled": scaled}
            | ({"f_score": scores[z]} if z in scores else {})
            for z, total, mean, scaled in zip(
                self.slices, *(column.tolist() for column in columns), strict=True
            )
        ]

    def _figures(self) -> dict[str, Any]:
        quality = self.quality
        return {
            "model": self.model,
            "known": format_slices(self.known),
            "slices": format_slices(self.slices),
            "components": self.distances.components,
            "o_dist": self.distances.overall,
            "mean_distance": float(self.distances.means.mean()),
            "threshold": quality and quality.threshold,
            "f_score": quality and quality.overall,
            "relation": self.relation and self.relation.summary(),
        }


def run(project_path: Path, params: DistanceParams, *, job: Job = QUIET) -> DistanceResult:
    """Measure how far slices are from those that a model knows.

    Features are kept in the project, so that only new photographs are looked at the next time.

    Raises
    ------
    FossilError
        Where there is no such model or slice, no slice to measure from or none to measure, or all
        look the same.
    """
    with ExitStack() as opened:
        home, other = open_both(opened, project_path, params.other)
        eye = Eye.of(home, home, params)
        known, notes = _known(home, eye.ref, params.known)
        count = other.shape[0]
        excluded = set(known) if other is home else set()
        measured = (
            parse_slices(params.slices, count)
            if params.slices.strip()
            else [z for z in range(count) if z not in excluded]
        )
        if both := sorted(excluded & set(measured)):
            raise FossilError(
                "Slices cannot be measured from themselves",
                expected="slices to measure that are not among those measured from",
                found=format_slices(both),
            )
        p = look_at(home, eye, known, job)
        there = Eye.of(home, other, params)
        s = look_at(other, there, measured, job)
        found = distances(p.features, s.features, params.components)
        notes += (*unlike(home, other, params.other), *eye.notes, *p.notes, *s.notes, *found.notes)
        quality = related = None
        if params.quality and there.ref is not None:
            quality, more = _quality(home, other, there.ref, s.slices, params, job)
            notes += more
        if quality is not None:
            places = {z: n for n, z in enumerate(s.slices)}
            scaled = found.scaled[[places[z] for z in quality.slices]]
            related = relation(scaled, np.array(quality.f_scores), params.seed)
        report = None if home.read_only else home.reports / f"distance-{eye.name}.json"
        result = DistanceResult(
            eye.name, p.slices, s.slices, found, quality, related, report, tuple(notes)
        )
        if report is not None:
            write_json(report, result.full())
            if quality is not None and quality.slices:
                rows = [{**row, "distance": row["scaled"]} for row in result.rows()]
                plots.write(report.with_suffix(".png"), plots.ByDistance.of(rows))
            with home.ledger.recorded("distance", params.model_dump(mode="json")) as summary:
                summary.update(result.summary())
        return result


def open_both(
    opened: ExitStack, project_path: Path, other_path: Path | None
) -> tuple[Project, Project]:
    """Open a project, and the other one whose slices are meant; the same where there is none."""
    home = opened.enter_context(Project.open(project_path))
    if other_path is None or other_path.resolve() == home.path.resolve():
        return home, home
    return home, opened.enter_context(Project.open(other_path))


def unlike(home: Project, other: Project, named: Path | None) -> tuple[str, ...]:
    """Return how the photographs of the project that was named differ in kind, in sentences."""
    if other is home:
        said = f"{named} is the project itself: its own slices are meant."
        return (said,) if named is not None else ()
    mine, yours = home.settings.stack, other.settings.stack
    notes = []
    if mine.rgb != yours.rgb:
        colours = ("grey", "in colour")
        notes.append(
            f"The photographs of {home.path.name} are {colours[mine.rgb]}, those of "
            f"{other.path.name} {colours[yours.rgb]}: this is part of their distance."
        )
    if home.geometry.pixel_size_um != other.geometry.pixel_size_um:
        notes.append(
            f"A pixel of {home.path.name} has {home.geometry.pixel_size_um:g} um, one of "
            f"{other.path.name} {other.geometry.pixel_size_um:g} um: a model that was trained "
            "here sees both on its own scale."
        )
    return tuple(notes)


def _known(project: Project, ref: ModelRef | None, text: str) -> tuple[list[int], tuple[str, ...]]:
    """Return the slices to measure from, and a note on which they are."""
    if text.strip():
        return parse_slices(text, project.shape[0]), ()
    if ref is not None and (learned := sorted(trained_on(project, ref))):
        return learned, (f"Measured from the slices that {ref.name} was made with.",)
    if traced := sorted(project.ledger.traced()):
        return traced, ("Measured from all traced slices.",)
    raise FossilError(
        f"{project.path} has no slices to measure from",
        expected="traced slices, or a model that was trained on some of them",
        found="no traced slice",
        advice="Name slices to measure from, or trace some.",
    )


def _quality(
    home: Project,
    project: Project,
    ref: ModelRef,
    slices: Sequence[int],
    params: DistanceParams,
    job: Job,
) -> tuple[Quality | None, tuple[str, ...]]:
    """Return F-scores of the traced ones among some slices, or why there are none."""
    traced = sorted(set(slices) & project.ledger.traced().keys())
    if not traced:
        return None, ("None of the measured slices is traced: F-scores are not known.",)
    instances, class_name, notes = predicted(home, project, ref, traced, params, job)
    counts = PixelCounts()
    for z in job.tracked(traced, len(traced), "Judging slice"):
        truth = read_ground_truth(project, z)
        counts.add(judged_slice(project, truth, instances(z), class_name))
    return counts.quality(), notes


def predicted(
    home: Project,
    project: Project,
    ref: ModelRef,
    slices: Sequence[int],
    params: DistanceParams | ExpectParams,
    job: Job,
) -> tuple[Callable[[int], list[Instance]], str, tuple[str, ...]]:
    """Predict the class that is meant, by a model of `home`, on those slices that it did not yet.

    Predictions are kept in `project`. An edit is known to its own project only: what it predicts
    elsewhere is not kept. Where the model finds no such class, that of its surest prediction on the
    slices stands for it.

    Returns
    -------
    what reads the predictions of a slice, as of the class of the project; this class; notes
    """
    class_name = known_class(project, params.class_name) or project.settings.classes[0]
    if project is not home and isinstance(ref, EditRef):
        segmenter, um = ref.load(params.device), project.geometry.pixel_size_um

        def read(z: int) -> Sequence[Instance]:
            image = project.contents.read(z)
            return segmenter.predict(image, slice_index=z, pixel_size_um=um, cancel=job.cancelled)

        notes: tuple[str, ...] = (
            f"Predictions of the edit {ref.name} on another project are not kept.",
        )
    else:
        address = ref.address
        if project is not home and address in home.models():
            address = str(ref.folder.resolve())
        predicting = PredictParams(model=address, device=params.device)
        done = predict_missing(project, predicting, slices, job=job)
        notes = done.notes

        def read(z: int) -> Sequence[Instance]:
            return project.instances(done.source, z)

    as_class, assumed = _classes(map(read, slices), class_name, ref.name)

    def of_class(z: int) -> list[Instance]:
        return [replace(i, class_name=class_name) for i in read(z) if i.class_name == as_class]

    return of_class, class_name, (*notes, *assumed)


def _classes(
    predictions: Iterable[Sequence[Instance]], class_name: str, model: str
) -> tuple[str, tuple[str, ...]]:
    """Return the class of a model's predictions that is meant, and a note where it is another."""
    surest: dict[str, float] = {}
    for instances in predictions:
        for i in instances:
            surest[i.class_name] = max(i.score, surest.get(i.class_name, 0.0))
        if class_name in surest:
            return class_name, ()
    if not surest:
        return class_name, ()
    best = max(surest, key=surest.__getitem__)
    return best, (f"{model} finds no {class_name}: its {best} is taken for it.",)
