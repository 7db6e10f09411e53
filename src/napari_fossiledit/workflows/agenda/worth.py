"""What tracing a slice costs and may gain, and what tracing and training gained the last time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.distance import cdist

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.numbers import Spread
from napari_fossiledit.evaluation.relation import Relation, relation
from napari_fossiledit.files import read_json
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.params.agenda import ExpectParams, SuggestParams
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.selection.agenda import Pick
from napari_fossiledit.workflows.agenda import expected, plots
from napari_fossiledit.workflows.agenda.features import Eye, look_at
from napari_fossiledit.workflows.edit.judging import judge_edit
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.model_refs import find_model, in_use
from napari_fossiledit.workflows.shared.taught import Teaching, read_teaching

LEAST_GAIN = 0.01
"""IoU over all fossils that a training has to be able to bring, so that tracing is worth hours."""

SHOWN_SCORE = 0.5
"""Score from which on a prediction counts as a fossil, as the window shows it at first."""


def with_hours(
    project: Project, source: str | None, picks: Sequence[Pick], params: SuggestParams
) -> tuple[list[Pick], tuple[str, ...]]:
    """Add how many fossils are expected on slices, and how many hours it takes to trace them.

    They are those predicted; on slices without predictions the mean number of the traced slices.
    """
    ledger, counted, notes = project.ledger, dict[int, float](), tuple[str, ...]()
    predicted = ledger.done(source) if source else set()
    traced = [
        len(ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)) for z in ledger.traced()
    ]
    for pick in picks:
        if source and pick.slice in predicted:
            found = ledger.instances(
                source, slices=[pick.slice], part=Part.BODY, min_score=SHOWN_SCORE
            )
            counted[pick.slice] = float(len(found))
        elif traced:
            counted[pick.slice] = float(np.mean(traced))
            notes = ("Where nothing is predicted, as many fossils are expected as were traced.",)
    if len(counted) < len(picks):
        notes = ("How long tracing takes is not known: nothing is predicted, and nothing traced.",)
    return [
        replace(
            pick,
            fossils=count,
            hours=(params.slice_minutes + params.fossil_minutes * count) / 60,
        )
        if (count := counted.get(pick.slice)) is not None
        else pick
        for pick in picks
    ], notes


def with_gains(
    project: Project, picks: Sequence[Pick], params: SuggestParams, job: Job
) -> tuple[list[Pick], Relation | None, tuple[str, ...]]:
    """Add the F-score to expect, and the gain of its mean an hour of tracing where it can be told.

    What is expected is drawn along the stack, into the reports. The model is expected to become, on
    the slices that a suggestion stands for, as good as it is on the best third of the slices now.
    Each slice counts for the suggested or traced slice that it looks most like.

    Returns
    -------
    picks, how quality goes with distance on traced slices that the model did not learn from (None:
    not known), and what was assumed
    """
    shared = params.model_dump(include={"model", "components", "device", "seed"})
    found = expected.run(project.path, ExpectParams(**shared), job=job)
    rows = {row["slice"]: row for row in found.rows()}
    eye = Eye.of(project, project, params.model_copy(update={"model": found.model}))
    known = ("expected", "low", "high")
    picks = [
        replace(p, **{k: rows[p.slice][k] for k in known}) if p.slice in rows else p for p in picks
    ]
    traced = project.ledger.traced()
    if not project.read_only:
        wanted = tuple(pick.slice for pick in picks)
        along_z = plots.AlongZ(tuple(rows.values()), tuple(traced), wanted)
        plots.write(project.reports / "suggested.png", along_z)
    left = [z for z in rows if z not in traced]
    seen = look_at(project, eye, left, job)
    centres = look_at(project, eye, [*(p.slice for p in picks if p.slice in rows), *traced], job)
    if not seen.slices or not centres.slices:
        return list(picks), None, found.notes
    f_scores = np.array([row["expected"] for row in rows.values()])
    level = np.sort(f_scores)[-max(len(f_scores) // 3, 1) :].mean()
    missing = np.array([max(level - rows[z]["expected"], 0.0) for z in seen.slices])
    nearest = cdist(seen.features, centres.features).argmin(axis=1)
    gains = {
        z: float(missing[nearest == n].sum()) / len(left) for n, z in enumerate(centres.slices)
    }
    judged = [r for r in rows.values() if r["f_score"] is not None and r["distance"] is not None]
    related = relation(
        np.array([r["distance"] for r in judged]), np.array([r["f_score"] for r in judged])
    )
    note = (
        f"Gains are what {found.model} would gain on slices that look most like a suggestion if it"
        f" became as good there as on the best third of the slices (F {level:.2f}); which F to"
        f" expect was learned from {found.calibrated_on}."
    )
    return (
        [
            replace(p, gain=gains[p.slice] / p.hours) if p.hours and p.slice in gains else p
            for p in picks
        ],
        related if judged else None,
        (*found.notes, note),
    )


def last_gain(
    project: Project, params: SuggestParams, job: Job
) -> tuple[str | None, Spread | None]:
    """Say what the last training brought: the model in use against the one that it went on from.

    Both are judged at equal recall on traced slices that neither has learned from; if gains are not
    asked for, only what was found when the model was taught is told.

    Returns
    -------
    words, None where no model of the project is in use or nobody asked; the gain in IoU over all
    fossils with its interval, None where it cannot be known
    """
    name = in_use(project)
    try:
        ref = find_model(project, name).root if name else None
    except FossilError:
        # It is gone: slices can be suggested all the same.
        ref = None
    if ref is None or ref.name not in project.models():
        return None, None
    taught = read_teaching(project, ref.name)
    record = read_json(project.model_folder(ref.name) / RECORD, "the record of a model")
    start = taught.parent if taught else (record.get("training") or {}).get("init")
    unknown = "What the last training brought cannot be known: "
    try:
        before = find_model(project, start) if start else None
    except FossilError:
        before = None
    if before is None:
        return f"{unknown}{ref.name} went on from no fossil model that is still there.", None
    seen = trained_on(project, ref) | trained_on(project, before)
    slices = sorted(project.ledger.traced().keys() - seen)
    if not slices:
        return (
            f"{unknown}{ref.name} or {before.name} has learned from every traced slice. Trace one"
            " slice more and pin it: pinned slices only judge."
        ), None
    if not params.gain:
        return _told(project, taught, seen)
    class_name = project.settings.classes[0]
    judging = EditParams(class_name=class_name, device=params.device)
    judged = judge_edit(project, before.address, ref.address, slices, judging, 0.0, job)
    equal = judged.at_equal_recall if judged else None
    if equal is None or equal.gain.mean is None or equal.gain.interval is None:
        shown = f"show no {class_name}" if judged is None else "show too few fossils to tell"
        return f"{unknown}slices {format_slices(slices)} {shown}.", None
    low, high = equal.gain.interval
    return (
        f"{ref.name} against {before.name} on slices {format_slices(slices)}, which neither learned"
        f" from: IoU over all fossils {equal.gain.mean:+.3f} (95 % interval {low:+.3f} to"
        f" {high:+.3f}) {'at equal recall' if equal.within else 'over its best mask cut'}."
    ), equal.gain


def _told(
    project: Project, taught: Teaching | None, seen: set[int]
) -> tuple[str | None, Spread | None]:
    """Return what was found on pinned slices when a model was taught, if none of them was seen."""
    figures = (taught and taught.figures) or {}
    found, judged = figures.get("gain_iou_all"), figures.get("judged")
    if not found or not judged or seen & {*parse_slices(judged["slices"], project.shape[0])}:
        return None, None
    interval = found["interval_95"]
    gain = Spread(found["mean"], found["std"], interval and (interval[0], interval[1]))
    return figures["verdict"], gain


def stop_signal(gain: Spread | None, related: Relation | None) -> str | None:
    """Say that more slices may not be worth their time; None where nothing speaks for that.

    A gain of which only its sign is not certain is no reason to stop.
    """
    if gain is not None and gain.interval is not None:
        high = gain.interval[1]
        if high < 0:
            return (
                "The last training made the model worse: use the one before, and look at what went"
                " wrong before you trace more."
            )
        if high < LEAST_GAIN:
            return (
                f"The last training brought less than {LEAST_GAIN} of IoU: more slices may not be"
                " worth their time. Look at what is still wrong before you trace more."
            )
    if related is not None and related.flat:
        return f"{related.verdict} More slices may not be worth their time."
    return None
