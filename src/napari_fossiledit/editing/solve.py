"""Solving for an edit: pairs of slices in, weights to add out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from napari_fossiledit.editing.edit import Edit
from napari_fossiledit.editing.examples import (
    Example,
    Pair,
    examples_of,
    require_finite,
    residual_alone,
)
from napari_fossiledit.editing.level import Curve, Solved, solve_level
from napari_fossiledit.editing.memory import is_out_of_memory, ran_out, require_memory
from napari_fossiledit.editing.system import System, flattened
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.editing import Pull, Scope, SolveParams, Solver
from napari_fossiledit.progress import QUIET, Job, Progress

_SHARES = 1000
"""Units of work that progress is told in."""

_PAUSE_S = 0.1
"""Progress is not told more often: thousands of steps of Adam would drown a window."""


@dataclass
class Solution:
    """An edit and how it was found.

    Attributes
    ----------
    edit
        The weights to add.
    before, after
        Weighted mean absolute deviation of each layer without and with the edit.
    drift
        |dW| / |W| of each layer.
    curves
        (step, loss) pairs of each layer, without an edit at step 0; step 1 of the direct solvers is
        ridge.
    preservation
        Root mean square change of the output of each layer on the preserved slices, as share of the
        output's root mean square.
    seconds
        Time of capturing and solving.
    cancelled
        Whether it was broken off and holds the best weights up to then.
    """

    edit: Edit
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    drift: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    preservation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cancelled: bool = False

    @property
    def losses(self) -> dict[str, tuple[float, float | None]]:
        """Deviation of each layer without and with the edit; None where it was not solved."""
        return {name: (value, self.after.get(name)) for name, value in self.before.items()}


def solve(
    segmenter: Segmenter,
    pairs: Sequence[Pair],
    params: SolveParams,
    *,
    preserve: Sequence[Image] = (),
    pixel_size_um: float | None = None,
    job: Job = QUIET,
) -> Solution:
    """Find the edit that makes the model see the original slices as it sees the perturbed ones.

    Parameters
    ----------
    pairs
        Slices to edit with, read one at a time; several are solved jointly.
    preserve
        Slices whose output should stay, read one at a time; needed for ``Pull.OUTPUT``.

    Raises
    ------
    FossilError
        Where there is no pair, one does not fit, nothing is to be preserved but asked for, a level
        does not exist, the network cannot draw masks from maps of their own but should, keys are
        not finite, or memory does not suffice.
    CancelledError
        Where it is cancelled and ``keep_partial`` is off, or before there is anything to keep.
    """
    with _memory_watched():
        solving = _Solving(segmenter, params, pixel_size_um, job)
        return solving.run(pairs, preserve)


@contextmanager
def _memory_watched() -> Iterator[None]:
    """Tell in words where memory runs out and no smaller block can help."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ran_out("this edit") from error


class _Solving:
    """One solve, level after level."""

    def __init__(
        self,
        segmenter: Segmenter,
        params: SolveParams,
        pixel_size_um: float | None,
        job: Job,
    ) -> None:
        self.segmenter, self.params, self.pixel_size = segmenter, params, pixel_size_um
        layers = segmenter.layers(params.scope)
        self.names, self.layers = tuple(layers), list(layers.values())
        self.levels = _chosen_levels(params.levels, len(self.names))
        self.job = job
        self._began = time.monotonic()

    def run(self, pairs: Sequence[Pair], preserve: Sequence[Image]) -> Solution:
        self._require(pairs, preserve)
        examples = self._captured(pairs)
        kept = self._kept(preserve) if self._holds_output else {}
        result = self._solved(examples, kept)
        result.drift = result.edit.drift(self.segmenter)
        if not result.cancelled:
            self._judge_preservation(result, preserve, kept)
        result.seconds = time.monotonic() - self._began
        return result

    @property
    def _holds_output(self) -> bool:
        params = self.params
        return params.pull_to is Pull.OUTPUT and params.solver is not Solver.ADAM

    def _require(self, pairs: Sequence[Pair], preserve: Sequence[Image]) -> None:
        if self.params.scope is Scope.MASKS and Scope.MASKS not in self.segmenter.scopes:
            raise FossilError(
                "The masks of this network cannot be edited alone",
                expected="a network that draws masks from maps of their own",
                found="one that finds and draws with the same maps",
                advice=f"Choose --scope {Scope.ALL}, or the backend twin.",
            )
        if not pairs:
            raise FossilError("No slice to edit with was chosen", expected="one slice or more")
        if self._holds_output and self.params.pull > 0 and not preserve:
            raise FossilError(
                "There is no slice whose output could be preserved",
                expected="one preserved slice or more",
                advice="Choose slices to preserve, or hold to the weights instead.",
            )

    def _captured(self, pairs: Sequence[Pair]) -> dict[int, list[Example]]:
        """Keys and values of all pairs, by level."""
        found: dict[int, list[Example]] = {n: [] for n in self.levels}
        for count, pair in enumerate(pairs):
            self._tell(f"Capturing slice {count + 1} of {len(pairs)}")
            self.job.check("The edit")
            levels = examples_of(self.segmenter, pair, self.pixel_size, self.params.scope)
            if count == 0:
                self._estimate(levels, len(pairs))
            for n in self.levels:
                alone = self.params.solver is not Solver.ADAM
                found[n].append(residual_alone(levels[n]) if alone else levels[n])
        return found

    def _estimate(self, levels: Sequence[Example], pairs: int) -> None:
        """Refuse what would not fit into memory, and say how much it takes."""
        sizes = [e.key.numel() + 2 * e.value.numel() for e in (levels[n] for n in self.levels)]
        largest = max(levels[n].value.numel() for n in self.levels)
        matrices = (12 + 2 * len(sizes)) * (9 * levels[0].key.shape[1]) ** 2
        floats = pairs * (sum(sizes) + 4 * largest) + matrices
        need = require_memory(4 * floats, f"an edit of {pairs} slices", levels[0].key.device)
        self._tell(f"The edit takes about {need / 2**30:.1f} GB of memory")

    def _kept(self, preserve: Sequence[Image]) -> dict[int, _Kept]:
        """Sum over the keys of the preserved slices, by level; one slice is held at a time."""
        found: dict[int, _Kept] = {}
        for count, image in enumerate(preserve):
            self._tell(f"Summing preserved slice {count + 1} of {len(preserve)}")
            for n, example in self._unchanged(image):
                shape = self.layers[n].weight.shape
                kept = found.setdefault(n, _Kept(System.empty(shape[1], shape[0])))
                kept.system.add(example, self.params.block, self.job.cancelled)
                kept.energy += _energy(example.value)
        return found

    def _unchanged(self, image: Image) -> Iterator[tuple[int, Example]]:
        """Keys of a slice that asks for no change, by level."""
        self.job.check("The edit")
        levels = self.segmenter.capture(
            image, pixel_size_um=self.pixel_size, scope=self.params.scope
        )
        for n in self.levels:
            require_finite(self.names[n], levels[n].key)
            value = levels[n].value.contiguous()
            yield n, Example(levels[n].key.contiguous(), value, value)

    def _solved(self, examples: dict[int, list[Example]], kept: dict[int, _Kept]) -> Solution:
        """Solve the levels; a level that was broken off ends them."""
        sizes = {n: sum(e.positions for e in found) for n, found in examples.items()}
        work = _Work(sizes, self.job)
        result, deltas = Solution(Edit()), dict[str, Tensor]()
        for n in self.levels:
            name, job = self.names[n], work.level(n, self.names[n])
            keep = kept[n].system.gram if n in kept else None
            try:
                solved = solve_level(self.layers[n], examples.pop(n), keep, self.params, job)
            except CancelledError:
                if not (self.params.keep_partial and deltas):
                    raise
                result.cancelled = True
                break
            _require_solved(name, solved)
            deltas[name] = solved.delta
            _note(result, name, solved)
            work.finish(n)
            if solved.cancelled:
                break
        result.edit = Edit(deltas)
        return result

    def _judge_preservation(
        self, result: Solution, preserve: Sequence[Image], kept: dict[int, _Kept]
    ) -> None:
        """Tell how much the edit changes what it should not."""
        try:
            if kept:
                result.preservation = {
                    self.names[n]: found.change(result.edit.deltas[self.names[n]])
                    for n, found in kept.items()
                }
            else:
                result.preservation = self.preserved(result.edit, preserve)
        except CancelledError:
            if not self.params.keep_partial:
                raise
            result.cancelled = True

    def preserved(self, edit: Edit, preserve: Sequence[Image]) -> dict[str, float]:
        """Tell the change of the output on preserved slices, see `Solution.preservation`."""
        changed, whole = dict.fromkeys(self.levels, 0.0), dict.fromkeys(self.levels, 0.0)
        for count, image in enumerate(preserve):
            self._tell(f"Judging preserved slice {count + 1} of {len(preserve)}", _SHARES)
            for n, example in self._unchanged(image):
                delta = edit.deltas[self.names[n]].to(example.key.device)
                changed[n] += _energy(functional.conv2d(example.key, delta, padding=1))
                whole[n] += _energy(example.value)
        return {self.names[n]: _share(changed[n], whole[n]) for n in self.levels if preserve}

    def _tell(self, message: str, done: int = 0) -> None:
        self.job.report(done, _SHARES, message)


def _chosen_levels(text: str, count: int) -> list[int]:
    try:
        return parse_slices(text, count)
    except FossilError as error:
        raise FossilError(
            "The levels of the edit cannot be read",
            expected=f"levels of the pyramid from 0 to {count - 1}, such as 0-3 or 1,2",
            found=repr(text),
        ) from error


def _require_solved(name: str, solved: Solved) -> None:
    """Refuse weights that ran away; a too large step of adam does that."""
    if not bool(solved.delta.isfinite().all()):
        raise FossilError(
            f"Solving {name} diverged",
            expected="finite weights",
            found="NaN or infinity",
            advice="Take a smaller learning rate, or another solver.",
        )


def _note(result: Solution, name: str, solved: Solved) -> None:
    result.before[name], result.after[name] = solved.before, solved.after
    result.curves[name] = solved.curve
    result.cancelled |= solved.cancelled


@dataclass
class _Kept:
    """What must not change at one level: the keys' Gram matrix and the output's sum of squares."""

    system: System
    energy: float = 0.0

    def change(self, delta: Tensor) -> float:
        """Root mean square change by an edit, as share of the output's: tr(D' C D) is its square.

        Nothing has to be captured again for it.
        """
        flat = flattened(delta.double().cpu())
        return _share(float((flat * (self.system.gram @ flat)).sum()), self.energy)


def _energy(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dim=1).square().sum())


def _share(changed: float, whole: float) -> float:
    return float((max(changed, 0.0) / whole) ** 0.5) if whole else 0.0


class _Work:
    """Progress over levels, each weighed by its positions: fine levels take longest."""

    def __init__(self, positions: dict[int, int], job: Job) -> None:
        self._sizes, self._job = positions, job
        self._done, self._whole = 0, sum(positions.values())
        self._began, self._told = time.monotonic(), 0.0

    def level(self, n: int, name: str) -> Job:
        """Report and cancel of level `n`."""
        self._told = -math.inf

        def report(progress: Progress) -> None:
            now = time.monotonic()
            if now - self._told >= _PAUSE_S or progress.done == progress.total:
                self._told = now
                self._job.on_progress(self._put(n, name, progress, now - self._began))

        return Job(report, self._job.cancelled)

    def _put(self, n: int, name: str, progress: Progress, elapsed: float) -> Progress:
        """Put the progress of a level into that of all."""
        share = (self._done + self._sizes[n] * progress.done / progress.total) / self._whole
        values = {**progress.values, "level": float(n), "step": float(progress.done)}
        message = f"Editing {name}: step {progress.done} of {progress.total}"
        eta = elapsed / share * (1 - share)
        return Progress(int(_SHARES * share), _SHARES, message, eta, values)

    def finish(self, n: int) -> None:
        """Count a level that was solved."""
        self._done += self._sizes[n]
