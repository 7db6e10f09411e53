"""How unequally a model looks at the slices and colours that it sees, over many slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.compare import Comparison, compare
from napari_fossiledit.evaluation.numbers import Spread, percent, spread
from napari_fossiledit.exchange.pages.charts import INK, drawn
from napari_fossiledit.files import appearing, inside, write_json, write_whole
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.saliency import AsymmetryParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.summary import Summary, plain
from napari_fossiledit.workflows.edit.slices import spread_over
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.ground_truth import (
    find_instances,
    judged_slice,
    read_ground_truth,
)
from napari_fossiledit.workflows.shared.model_refs import ModelRef, find_model
from napari_fossiledit.workflows.shared.perturbed_slices import prepared
from napari_fossiledit.workflows.shared.seen import seen
from napari_fossiledit.workflows.shared.sources import known_class

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.preprocessing import Image
    from napari_fossiledit.models.inference.protocol import Segmenter
    from napari_fossiledit.saliency.asymmetry import Asymmetry

FIGURES, PICTURE = "saliency.json", "saliency.png"

_MOST_SLICES = 8
"""Slices that are looked at where none were named and none is traced."""
_EQUAL = 0.05
"""Index up to which two sides count as equal in words."""
_LITTLE, _MOST = 0.1, 0.5
"""Share of the IoU lost without true hues up to which colour hardly counts, and that from which on
it counts most."""
_TOO_LITTLE = 0.1
"""IoU with true hues below which what is lost says nothing."""

_NAMES = ("red", "green", "blue")


@dataclass(frozen=True)
class Seen(Summary):
    """What one model looks at, over all slices.

    Attributes
    ----------
    model
        Its name, or that it is what the training began with.
    slices, colours
        Shares of |saliency|, means over the slices with 95 % intervals, by place in the window
        ("-1", "0", "+1") and by colour.
    index
        (S+ - S-) / (S+ + S-) of the slices after and before; None without a window.
    absolute
        Mean of |index|.
    """

    model: str
    slices: dict[str, Spread]
    colours: dict[str, Spread]
    index: Spread | None
    absolute: float | None

    @classmethod
    def of(cls, model: str, found: Asymmetry, seed: int) -> Seen:
        """Take means and intervals over slices."""

        def means(names: Sequence[str], columns: np.ndarray[Any, Any]) -> dict[str, Spread]:
            return {n: spread(c.tolist(), seed=seed) for n, c in zip(names, columns.T, strict=True)}

        window = found.window
        places = [f"{n:+d}" if n else "0" for n in range(-window.reach, window.reach + 1)]
        return cls(
            model,
            means(places, found.by_slice),
            means(_NAMES if window.colours == 3 else ("grey",), found.by_colour),
            spread(found.index.tolist(), seed=seed) if window.reach else None,
            float(np.abs(found.index).mean()) if window.reach else None,
        )

    @property
    def sentences(self) -> list[str]:
        """Which slices and which colours it looks at, in words; none where it sees one of each."""
        words = []
        if self.index is not None and self.index.mean is not None:
            shares = [s.mean or 0.0 for s in self.slices.values()]
            reach = len(shares) // 2
            before, here, after = sum(shares[:reach]), shares[reach], sum(shares[reach + 1 :])
            side, more = ("after", after) if self.index.mean > 0 else ("before", before)
            low, high = self.index.interval or (self.index.mean, self.index.mean)
            verdict = f"the slices {side} it count more"
            if abs(self.index.mean) <= _EQUAL:
                verdict = "both sides count about alike"
            elif low <= 0 <= high:
                verdict += ", but not on all slices that were looked at"
            elif more > here:
                verdict = f"the slices {side} it count most, more than the slice itself"
            words.append(
                f"{self.model}: of what it looks at, {percent(here)} lies on the slice itself,"
                f" {percent(before)} before and {percent(after)} after it: {verdict} (index"
                f" {self.index.mean:+.3f}, 95 % interval {low:+.3f} to {high:+.3f})."
            )
        if len(self.colours) > 1:
            parts = [f"{percent(s.mean)} {name}" for name, s in self.colours.items()]
            words.append(f"{self.model}: what it looks at is {', '.join(parts)}.")
        return words


@dataclass(frozen=True)
class AsymmetryResult(Summary):
    """How unequally a model looks at what it sees.

    Attributes
    ----------
    slices
        Slices that were looked at.
    models
        The model, and where it was asked for what its training began with.
    hue
        Figures of traced slices as they are and with all hues turned; None where the model sees no
        colours, or nothing was traced.
    sentences
        The result in words.
    folder
        Where figures and plot are.
    notes
        What was assumed or left out, in sentences.
    """

    slices: tuple[int, ...]
    models: tuple[Seen, ...]
    hue: Comparison | None
    sentences: tuple[str, ...]
    folder: Path
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; of the hues the figures over all fossils."""
        hue = self.hue and {
            name: {"before": getattr(self.hue.before, name), "after": getattr(self.hue.after, name)}
            for name in ("iou_all", "recall_all")
        }
        return {**super().summary(), "hue": plain(hue)}


def run(project_path: Path, params: AsymmetryParams, *, job: Job = QUIET) -> AsymmetryResult:
    """Measure over slices how |saliency| is shared out, and write it into the reports.

    Raises
    ------
    FossilError
        Where there is no such model or slice, a slice shows nothing of its classes, the stack is
        shorter than the window of the model, or it is not known what a training began with.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        ref = find_model(project, params.model)
        traced = sorted(project.ledger.traced())
        slices = parse_slices(params.slices, project.shape[0]) if params.slices.strip() else traced
        slices = slices or list(spread_over(range(project.shape[0]), _MOST_SLICES))
        # Where the stack is too short nothing needs to be predicted first.
        ref.window.near(slices[0], project.shape[0])
        job.report(0, 0, "Loading the model")
        segmenter = ref.load(params.device)
        models = {ref.name: segmenter}
        if params.before:
            models[f"{ref.name} before training"] = _began_with(ref, segmenter)
        asked, notes = _asked(project, params, segmenter, slices, job)
        if not project.stack.rgb and segmenter.preprocessing.window.colours == 3:
            notes.append("The photographs are grey: red, green and blue show the model the same.")
        seen_by = tuple(
            Seen.of(name, _measured(project, model, asked, params, name, job), params.seed)
            for name, model in models.items()
        )
        judged = [z for z in asked if z in traced]
        name = params.class_name or project.settings.classes[0]
        hue = None
        if params.hue and judged:
            hue = _turned(project, segmenter, judged, name, params, job)
        sentences = [sentence for one in seen_by for sentence in one.sentences]
        sentences += [] if hue is None else [_on_colour(seen_by[0], hue, name, params.hue)]
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        folder = inside(project.reports, f"saliency-{ref.name}-{stamp}")
        result = AsymmetryResult(
            tuple(asked), seen_by, hue, tuple(sentences), folder, (*ref.notes, *notes)
        )
        recorded = project.ledger.recorded("saliency-report", params.model_dump(mode="json"))
        with recorded as summary, appearing(folder) as draft:
            figures = {**result.summary(), "params": params.model_dump(mode="json")}
            write_json(draft / FIGURES, figures)
            write_whole(draft / PICTURE, drawn(lambda figure: _draw(figure, seen_by)))
            summary.update(result.summary())
    return result


def _began_with(ref: ModelRef, segmenter: Segmenter) -> Segmenter:
    from napari_fossiledit.models.files.registry import read_record
    from napari_fossiledit.models.training.initial import before_training

    start = before_training(read_record(ref.root.folder)).to(segmenter.device)
    shown = ref.shown
    return start if shown is None else start.showing(shown.low, shown.high)


def _asked(
    project: Project,
    params: AsymmetryParams,
    segmenter: Segmenter,
    slices: Sequence[int],
    job: Job,
) -> tuple[dict[int, list[Instance]], list[str]]:
    """Return the instances of each slice: those traced there, else those that the model finds."""
    traced, notes = project.ledger.traced(), []
    usual = PredictParams(model=params.model, device=params.device)
    missing = [z for z in slices if z not in traced]
    source = predict_missing(project, usual, missing, job=job).source if missing else ""
    classes = {known_class(project, params.class_name)} - {""} or {*segmenter.classes}
    asked = {}
    for z in slices:
        least = 0.0 if z in traced else params.score
        # Boxes are those of the predictions.
        of_slice = project.ledger.instances(
            ANNOTATIONS if z in traced else source,
            slices=[z],
            min_score=least,
            with_probability=True,
        )
        chosen = [
            i for i in of_slice if i.part is Part.BODY and not i.unsure and i.class_name in classes
        ]
        if chosen:
            asked[z] = chosen
    if not asked:
        raise FossilError(
            "No slice shows anything to ask the model about",
            expected=f"instances of {', '.join(sorted(classes))}",
            found="none",
            advice="Name other slices, or a lower score.",
        )
    if empty := [z for z in slices if z not in asked]:
        notes.append(f"Left out, as they show no instance: slices {format_slices(empty)}.")
    if missing := [z for z in missing if z in asked]:
        notes.append(
            f"Slices {format_slices(missing)} are not traced: asked was about what the model finds."
        )
    return asked, notes


def _measured(
    project: Project,
    segmenter: Segmenter,
    asked: dict[int, list[Instance]],
    params: AsymmetryParams,
    name: str,
    job: Job,
) -> Asymmetry:
    from napari_fossiledit.saliency.asymmetry import asymmetry

    tracked = job.tracked(asked.items(), len(asked), f"Looking at what {name} looks at")
    pairs = ((seen(project, segmenter.preprocessing.window, z), found) for z, found in tracked)
    pixel = project.geometry.pixel_size_um
    return asymmetry(segmenter, pairs, params, pixel_size_um=pixel)


def _turned(
    project: Project,
    segmenter: Segmenter,
    slices: Sequence[int],
    name: str,
    params: AsymmetryParams,
    job: Job,
) -> Comparison | None:
    """Compare what is found in traced slices as they are and with the hues of all turned."""
    window = segmenter.preprocessing.window
    if not project.stack.rgb or window.colours == 1:
        return None
    steps = PerturbParams(preset=Preset.CUSTOM, steps=f"all -> hue {params.hue:g}")

    def turned(z: int) -> Image:
        return prepared(project, z, steps).perturbed

    before, after = [], []
    for z in job.tracked(slices, len(slices), "Turning the hues of slice"):
        truth = read_ground_truth(project, z)
        found = segmenter.predict(
            window.read(turned, z, project.shape[0]),
            slice_index=z,
            pixel_size_um=project.geometry.pixel_size_um,
            cancel=job.cancelled,
        )
        as_it_is = find_instances(segmenter, project, z, job.cancelled)
        before.append(judged_slice(project, truth, as_it_is, name))
        after.append(judged_slice(project, truth, found, name))
    return compare(before, after, score_before=params.score, score_after=params.score)


def _on_colour(seen_by: Seen, hue: Comparison, class_name: str, degrees: float) -> str:
    """Say whether a model goes by colour or by texture, with both figures."""
    old, new = (r.iou_all.mean or 0.0 for r in (hue.before, hue.after))
    recalls = [percent(r.recall_all.mean) for r in (hue.before, hue.after)]
    lost = 1 - new / old if old else 0.0
    first, share = max(((n, s.mean or 0.0) for n, s in seen_by.colours.items()), key=lambda c: c[1])
    verdict = "it goes by colour and by texture"
    if old < _TOO_LITTLE:
        verdict = "it finds too little of them to tell what it goes by"
    elif lost >= _MOST:
        verdict = "it goes by colour more than by texture"
    elif lost <= _LITTLE:
        verdict = "it goes by texture and brightness, hardly by colour"
    return (
        f"{percent(share)} of what it looks at is in the {first} channel; with all hues turned by"
        f" {degrees:g} degrees the IoU over all that is traced as {class_name} goes from {old:.2f}"
        f" to {new:.2f} and the recall from {recalls[0]} to {recalls[1]}: {verdict}."
    )


def _draw(figure: Any, seen_by: Sequence[Seen]) -> None:
    """Draw the shares of slices and of colours of each model, with their intervals."""
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, which, label in ((left, "slices", "slice of the window"), (right, "colours", "")):
        for n, one in enumerate(seen_by):
            shares: dict[str, Spread] = getattr(one, which)
            places = np.arange(len(shares)) + 0.8 * (n + 0.5) / len(seen_by) - 0.4
            means = np.array([s.mean or 0.0 for s in shares.values()])
            ends = np.array([s.interval or (s.mean, s.mean) for s in shares.values()], float)
            errors = np.abs(ends.T - means)
            axes.bar(places, means, 0.72 / len(seen_by), yerr=errors, label=one.model, capsize=3)
            axes.set_xticks(np.arange(len(shares)), [*shares])
        axes.set_xlabel(label, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("share of the saliency", color=INK)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", frameon=False)
