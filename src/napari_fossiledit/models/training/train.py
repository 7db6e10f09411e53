"""Train a Mask R-CNN from a few traced slices."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.models.files.places import STATE
from napari_fossiledit.models.files.registry import save_model
from napari_fossiledit.models.inference.devices import pick_device
from napari_fossiledit.models.inference.looks import Look
from napari_fossiledit.models.inference.precision import NO_GAIN, gains
from napari_fossiledit.models.inference.preprocessing import Preprocessing, Resize
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter
from napari_fossiledit.models.inference.values import EIGHT_BIT
from napari_fossiledit.models.network.mask_rcnn import STRIDE
from napari_fossiledit.models.training.augment import Variation
from napari_fossiledit.models.training.initial import initial_network
from napari_fossiledit.models.training.loop import Budget, Trainer, TrainingRecipe
from napari_fossiledit.models.training.sampling import (
    PreparedSlice,
    PreparedSlices,
    TrainingSet,
    survey,
)
from napari_fossiledit.models.training.validation import Judged, judge, split
from napari_fossiledit.params.segment import Precision, TrainParams
from napari_fossiledit.progress import QUIET, Job, check
from napari_fossiledit.stacks.window import Window

CURVE = "curve.jsonl"
_JUDGEMENTS = 12
"""At most in one training: each of them predicts the whole part that judges."""
_FIRST_JUDGEMENT = 0.4
"""Share of the budget before which no checkpoint is judged."""
_SETTLED = 250
"""Steps of the shipped model `reef-lite`, which starts from ImageNet; fewer were never enough."""
_SAVE_SECONDS = 120.0
"""At most so much work is lost when the process is killed."""
_UNFIXED = {"backend", "max_minutes", "max_steps", "device", "name", "precision", "version"}
"""Parameters that may be others when a training is resumed."""


@dataclass(frozen=True)
class TrainResult:
    """Outcome of a training.

    Attributes
    ----------
    segmenter
        The best model by the validation part.
    steps, minutes
        Done in all, resumed runs included.
    score
        Panoptic quality of the best checkpoint on the validation part, 0 to 1; None: nothing
        judged, and the last checkpoint was kept.
    stopped
        ``"steps"``, ``"time"`` or ``"cancelled"``: what ended it.
    curve
        Loss curve, one JSON object a line.
    held_back
        Traced instances that were not learned from, because they chose the best checkpoint.
    notes
        What was assumed of the start and what of it starts anew.
    """

    segmenter: Segmenter
    steps: int
    minutes: float
    score: float | None
    stopped: str
    curve: Path
    held_back: int
    notes: tuple[str, ...] = ()


def train(
    samples: TrainingSet,
    params: TrainParams,
    *,
    folder: Path,
    resume: bool = False,
    job: Job = QUIET,
) -> TrainResult:
    """Train a model and save it in `folder`.

    The folder receives ``model.json`` and ``weights.safetensors`` (the best checkpoint),
    ``curve.jsonl`` and, until the training is finished, ``training.safetensors`` to resume from.

    Parameters
    ----------
    samples
        Traced slices; ``params.slices`` is not read here.
    params
        ``classes`` must name what to learn.
    resume
        Go on from ``training.safetensors`` where there is one.
    cancel
        Stops between two steps; the best model so far is kept and saved.

    Raises
    ------
    FossilError
        Where nothing was traced, the start file does not fit, or the loss diverged.
    """
    run = _Run(samples, params, folder, resume)
    stopped = run.go(job)
    return run.finish(stopped)


class Parts:
    """The traced slices, parted into what is learned from and what judges.

    Attributes
    ----------
    judged
        Validation slices; where there are none a band of one of the others, unless only few
        instances were traced: then nothing, and all is learned.
    held_back
        True instances on them.
    """

    def __init__(self, samples: TrainingSet, slices: PreparedSlices, params: TrainParams) -> None:
        self._samples, self._slices = samples, slices
        self._band: dict[int, PreparedSlice] = {}
        pieces = [slices(z) for z in samples.validation]
        traced = accumulate(len(slices(z).labels) for z in samples.slices)
        if not pieces and any(count >= params.hold_back for count in traced):
            z = samples.slices[len(samples.slices) // 2]
            self._band[z], piece = split(slices(z))
            pieces = [piece]
        self.judged = [Judged.of(piece, params.classes) for piece in pieces]
        self.held_back = sum(len(piece.truth) for piece in self.judged)

    def learned(self, index: int) -> PreparedSlice:
        """Return what is learned from of the training slice of an index, from 0."""
        z = self._samples.slices[index]
        return self._band[z] if z in self._band else self._slices(z)

    @property
    def looks(self) -> list[Look]:
        """How the slices look that were learned from and that judged."""
        return [*self._slices.looks.values()]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what follows where nothing was held back."""
        if self.judged:
            return ()
        return (
            "So few instances were traced that all are learned and none is held back to judge"
            " (--hold-back): the model is that of the last step, and has no validation score.",
        )


class _Run:
    """One training from its first (or resumed) step to the saved model."""

    def __init__(
        self, samples: TrainingSet, params: TrainParams, folder: Path, resume: bool
    ) -> None:
        check_samples(samples, params)
        self.samples, self.params, self.folder = samples, params, folder
        network, start, self.notes = initial_network(params)
        self.settings = settings_of(samples, params, start)
        self.notes += values_notes(self.settings)
        self.slices = PreparedSlices(samples, self.settings, params.classes)
        self.parts = Parts(samples, self.slices, params)
        self.budget = Budget(params.max_steps, params.max_minutes * 60)
        recipe = TrainingRecipe(
            fitting(params.crop),
            params.batch,
            params.learning_rate,
            params.seed,
            Variation(z_flip=0.5 if params.z_flip else 0.0),
        )
        device = pick_device(params.device)
        mixed = params.precision is Precision.MIXED and gains(device)
        self.trainer = Trainer(network, self.settings, recipe, device, mixed=mixed)
        self.about = about(samples, params, self.settings)
        state = folder / STATE
        resumed = resume and state.is_file()
        if resumed:
            self.trainer.load(state, self.budget, self.about)
        self.notes += self._precision_notes(mixed)
        self.saved_at = self.budget.seconds
        self.judgements = _judgements(self.budget.share)
        with explained(self.folder, "Writing"):
            self.folder.mkdir(parents=True, exist_ok=True)
            kept = _curve(self.folder / CURVE, self.budget.step) if resumed else []
            (self.folder / CURVE).write_text("".join(f"{line}\n" for line in kept))

    def _precision_notes(self, chosen: bool) -> tuple[str, ...]:
        """Return how it is computed, where that is not as was chosen or not in float32."""
        is_mixed = self.trainer.mixed
        if is_mixed != chosen:
            name = Precision.MIXED if is_mixed else Precision.FULL
            return (f"The training goes on in the precision that it began with: {name}.",)
        if is_mixed:
            return ("Steps are computed in bfloat16 for the most part (--precision full: not).",)
        return (NO_GAIN,) if self.params.precision is Precision.MIXED else ()

    def go(self, job: Job) -> str:
        """Step until the budget is used up or the user stops; return which."""
        while self.budget.share < 1:
            if job.cancelled():
                return "cancelled"
            losses = self.trainer.step(
                self.budget.step, self.budget.share, self.parts.learned, len(self.samples.slices)
            )
            self.budget.step += 1
            figures = {**losses, **self._judged()}
            line = {"step": self.budget.step, "seconds": round(self.budget.seconds, 2)}
            line |= {name: float(f"{value:.6g}") for name, value in figures.items()}
            curve = self.folder / CURVE
            with explained(curve, "Writing"), curve.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
            job.on_progress(self.budget.progress("Training, step", figures))
            if self.budget.seconds - self.saved_at >= _SAVE_SECONDS:
                self.save_state()
        return "steps" if self.budget.step >= self.params.max_steps else "time"

    def _judged(self) -> dict[str, float]:
        """Judge the averaged weights when a judgement is due, and anything was held back."""
        due = _judgements(self.budget.share)
        if due <= self.judgements or not self.parts.judged:
            return {}
        self.judgements = due
        score = judge(
            MaskRcnnSegmenter(self.trainer.average, self.settings, self.trainer.device),
            self.parts.judged,
        )
        self.trainer.keep_if_better(score)
        return {"validation": score}

    def save_state(self) -> None:
        """Write the file to resume from."""
        self.trainer.save(self.folder / STATE, self.budget, self.about)
        self.saved_at = self.budget.seconds

    def finish(self, stopped: str) -> TrainResult:
        """Save the best model; the state to resume from stays where the user stopped.

        Raises
        ------
        CancelledError
            Where the user stopped before the first step.
        """
        check(lambda: self.budget.step == 0, "The training")
        judged = math.isfinite(self.trainer.best_score)
        if not judged:
            self.trainer.best = self.trainer.network_state()
        segmenter = MaskRcnnSegmenter(
            self.trainer.best_network(), self.settings, self.trainer.device
        )
        result = TrainResult(
            segmenter,
            self.budget.step,
            self.budget.seconds / 60,
            self.trainer.best_score if judged else None,
            stopped,
            self.folder / CURVE,
            self.parts.held_back,
            (*self.notes, *self.parts.notes, *shortness(self.budget, stopped)),
        )
        precision = str(Precision.MIXED if self.trainer.mixed else Precision.FULL)
        record = {**self.about, **facts(result, self.parts), "precision": precision}
        save_model(segmenter, self.folder, training=record)
        if stopped == "cancelled":
            self.save_state()
        else:
            (self.folder / STATE).unlink(missing_ok=True)
        return result


def shortness(budget: Budget, stopped: str) -> tuple[str, ...]:
    """Return a sentence where the time allowed fewer steps than a model needs to settle."""
    if stopped != "time" or budget.step >= _SETTLED:
        return ()
    return (
        f"{budget.max_seconds / 60:g} minutes allowed {budget.step} steps on this computer now;"
        f" fewer than {_SETTLED} are seldom enough. Train for longer, close other programs, or give"
        " a number of steps (--max-steps) and minutes to spare.",
    )


def fitting(edge: int) -> int:
    """Round the edge of a crop up to what the strides of the network divide."""
    return -(-edge // STRIDE) * STRIDE


def about(samples: TrainingSet, params: TrainParams, settings: Preprocessing) -> dict[str, Any]:
    """Return what must be the same for a run to be resumed."""
    return {
        **params.model_dump(mode="json", exclude=_UNFIXED),
        "slices": list(samples.slices),
        "validation": list(samples.validation),
        "preprocessing": settings.model_dump(mode="json"),
    }


def facts(result: TrainResult, parts: Parts) -> dict[str, Any]:
    """Return the outcome of a training as the record of its model holds it."""
    return {
        "steps": result.steps,
        "minutes": round(result.minutes, 2),
        "score": None if result.score is None else round(result.score, 4),
        "stopped": result.stopped,
        "held_back": result.held_back,
        "start": list(result.notes),
        "looks": parts.looks,
    }


def _judgements(share: float) -> int:
    """Count the judgements that are due at this share of the budget."""
    if share < _FIRST_JUDGEMENT:
        return 0
    # The small number keeps rounding from putting off the last one.
    return 1 + int((share - _FIRST_JUDGEMENT) / (1 - _FIRST_JUDGEMENT) * (_JUDGEMENTS - 1) + 1e-9)


def _curve(path: Path, last: int) -> list[str]:
    """Return the loss curve up to step `last`, without a line that a killed process tore off."""
    kept: list[str] = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            step = json.loads(line)["step"]
        except ValueError:
            break
        if step <= last:
            kept.append(line)
    return kept


def check_samples(samples: TrainingSet, params: TrainParams) -> None:
    """Raise `FossilError` where there is nothing to learn, or a slice also validates."""
    if not params.classes:
        raise FossilError("No class to learn was given", expected="one or more class names")
    if not samples.slices:
        raise FossilError("No slice to train on was given", expected="one or more traced slices")
    both = sorted(set(samples.slices) & set(samples.validation))
    if both:
        raise FossilError(
            "A slice both trains and validates",
            expected="different slices",
            found=", ".join(map(str, both)),
        )


def values_notes(settings: Preprocessing) -> tuple[str, ...]:
    """Return what is taken for black and white, where it is not the whole of 8 bit."""
    if (settings.low, settings.high) == EIGHT_BIT:
        return ()
    return (
        f"Values from {settings.low:g} to {settings.high:g}, nearly all that occur on the training"
        " slices, are shown to the model as 0 to 255.",
    )


def settings_of(
    samples: TrainingSet, params: TrainParams, start: Preprocessing | None
) -> Preprocessing:
    """Return the preprocessing of the new model; colours as in the one it starts from."""
    seen, window = survey(samples, params.classes), Window.of(params.input, params.reach)
    changes = {
        "low": seen.low,
        "high": seen.high,
        "scale": params.scale or seen.scale,
        "pixel_size_um": samples.pixel_size_um,
        "resize": Resize.SCALE,
        "input": window.mode,
        "reach": window.reach,
    }
    return (start or Preprocessing()).model_copy(update=changes)
