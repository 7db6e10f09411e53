"""Solve for an edit: pairs of slices in, weights to add out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
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
from napari_fossiledit.editing.level import Curve, solve_level
from napari_fossiledit.editing.memory import is_out_of_memory, ran_out, require_memory
from napari_fossiledit.editing.system import System, flattened
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.models.inference.preprocessing import Image
from napari_fossiledit.models.inference.protocol import Segmenter
from napari_fossiledit.params.editing import Pull, Scope, SolveParams, Solver
from napari_fossiledit.progress import QUIET, Job, Progress

_SHARES = 1000
"""Units of work that progress is reported in."""

_PAUSE_S = 0.1
"""Progress is not reported more often: thousands of steps of Adam would drown a window."""


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
    try:
        return _Solving(segmenter, params, pixel_size_um, job).run(pairs, preserve)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Where smaller blocks help they were tried already.
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
        self.segmenter, self.params, self.job = segmenter, params, job
        self.pixel_size = pixel_size_um
        layers = segmenter.layers(params.scope)
        self.names, self.layers = tuple(layers), list(layers.values())
        try:
            self.levels = parse_slices(params.levels, len(self.names))
        except FossilError as error:
            raise FossilError(
                "The levels of the edit cannot be read",
                expected=f"levels of the pyramid from 0 to {len(self.names) - 1}, such as 0-3 or"
                " 1,2",
                found=repr(params.levels),
            ) from error
        # Adam is the paper's solver and stays as it is there, without a pull.
        self.holds_output = params.pull_to is Pull.OUTPUT and params.solver is not Solver.ADAM
        self._began = time.monotonic()

    def run(self, pairs: Sequence[Pair], preserve: Sequence[Image]) -> Solution:
        if self.params.scope is Scope.MASKS and Scope.MASKS not in self.segmenter.scopes:
            raise FossilError(
                "The masks of this network cannot be edited alone",
                expected="a network that draws masks from maps of their own",
                found="one that finds and draws with the same maps",
                advice=f"Choose --scope {Scope.ALL}, or the backend twin.",
            )
        if not pairs:
            raise FossilError("No slice to edit with was chosen", expected="one slice or more")
        if self.holds_output and self.params.pull > 0 and not preserve:
            raise FossilError(
                "There is no slice whose output could be preserved",
                expected="one preserved slice or more",
                advice="Choose slices to preserve, or hold to the weights instead.",
            )
        examples = self._captured(pairs)
        kept = self._kept(preserve) if self.holds_output else {}
        solution = self._solved(examples, kept)
        solution.drift = solution.edit.drift(self.segmenter)
        if not solution.cancelled:
            try:
                solution.preservation = self._preservation(solution.edit, preserve, kept)
            except CancelledError:
                if not self.params.keep_partial:
                    raise
                solution.cancelled = True
        solution.seconds = time.monotonic() - self._began
        return solution

    def _captured(self, pairs: Sequence[Pair]) -> dict[int, list[Example]]:
        """Capture keys and values of all pairs, by level."""
        examples: dict[int, list[Example]] = {n: [] for n in self.levels}
        for count, pair in enumerate(pairs):
            self.job.report(0, _SHARES, f"Capturing slice {count + 1} of {len(pairs)}")
            self.job.check("The edit")
            levels = examples_of(self.segmenter, pair, self.pixel_size, self.params.scope)
            if count == 0:
                # All slices of a stack are of one size: the first shows what all will take.
                sizes = [levels[n].key.numel() + 2 * levels[n].value.numel() for n in self.levels]
                largest = max(levels[n].value.numel() for n in self.levels)
                matrices = (12 + 2 * len(sizes)) * (9 * levels[0].key.shape[1]) ** 2
                floats = len(pairs) * (sum(sizes) + 4 * largest) + matrices
                device = levels[0].key.device
                need = require_memory(4 * floats, f"an edit of {len(pairs)} slices", device)
                text = f"The edit takes about {need / 2**30:.1f} GB of memory"
                self.job.report(0, _SHARES, text)
            for n in self.levels:
                # Adam needs the output itself, for it starts from the weights that there are.
                alone = self.params.solver is not Solver.ADAM
                examples[n].append(residual_alone(levels[n]) if alone else levels[n])
        return examples

    def _kept(self, preserve: Sequence[Image]) -> dict[int, _Kept]:
        """Sum over the keys of the preserved slices, by level; one slice is held at a time."""
        sums: dict[int, _Kept] = {}
        for count, image in enumerate(preserve):
            text = f"Summing preserved slice {count + 1} of {len(preserve)}"
            self.job.report(0, _SHARES, text)
            for n, example in self._unchanged(image):
                shape = self.layers[n].weight.shape
                kept = sums.setdefault(n, _Kept(System.empty(shape[1], shape[0])))
                kept.system.add(example, self.params.block, self.job.cancelled)
                kept.energy += _energy(example.value)
        return sums

    def _unchanged(self, image: Image) -> Iterator[tuple[int, Example]]:
        """Capture a slice that asks for no change, by level."""
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
        progress = _LevelProgress(
            {n: sum(e.positions for e in pairs) for n, pairs in examples.items()}, self.job
        )
        solution, deltas = Solution(Edit()), dict[str, Tensor]()
        for n in self.levels:
            name, job = self.names[n], progress.level(n, self.names[n])
            # None holds the weights themselves.
            keep = kept[n].system.gram if n in kept else None
            try:
                # Taken out of the dictionary: the maps of a level are freed once it is solved.
                solved = solve_level(self.layers[n], examples.pop(n), keep, self.params, job)
            except CancelledError:
                if not (self.params.keep_partial and deltas):
                    raise
                solution.cancelled = True
                break
            if not bool(solved.delta.isfinite().all()):
                # A too large step of adam does that.
                raise FossilError(
                    f"Solving {name} diverged",
                    expected="finite weights",
                    found="NaN or infinity",
                    advice="Take a smaller learning rate, or another solver.",
                )
            deltas[name] = solved.delta
            solution.before[name], solution.after[name] = solved.before, solved.after
            solution.curves[name] = solved.curve
            solution.cancelled |= solved.cancelled
            progress.finish(n)
            if solved.cancelled:
                break
        solution.edit = Edit(deltas)
        return solution

    def _preservation(
        self, edit: Edit, preserve: Sequence[Image], kept: dict[int, _Kept]
    ) -> dict[str, float]:
        """Compute how much the edit changes what it should not, see `Solution.preservation`."""
        if kept:
            # From the sums: nothing has to be captured again.
            return {self.names[n]: k.change(edit.deltas[self.names[n]]) for n, k in kept.items()}
        changed, whole = dict.fromkeys(self.levels, 0.0), dict.fromkeys(self.levels, 0.0)
        for count, image in enumerate(preserve):
            text = f"Judging preserved slice {count + 1} of {len(preserve)}"
            self.job.report(_SHARES, _SHARES, text)
            for n, example in self._unchanged(image):
                delta = edit.deltas[self.names[n]].to(example.key.device)
                changed[n] += _energy(functional.conv2d(example.key, delta, padding=1))
                whole[n] += _energy(example.value)
        return {self.names[n]: _share(changed[n], whole[n]) for n in self.levels if preserve}


@dataclass
class _Kept:
    """Sums of what must not change at one level: the keys' Gram matrix, the output's squares."""

    system: System
    energy: float = 0.0

    def change(self, delta: Tensor) -> float:
        """Compute the root mean square change by an edit, as share of the output's.

        tr(D' C D) is its square.
        """
        flat = flattened(delta.double().cpu())
        return _share(float((flat * (self.system.gram @ flat)).sum()), self.energy)


def _energy(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dim=1).square().sum())


def _share(changed: float, whole: float) -> float:
    return float((max(changed, 0.0) / whole) ** 0.5) if whole else 0.0


class _LevelProgress:
    """Progress over levels, each weighed by its positions: fine levels take longest."""

    def __init__(self, positions: dict[int, int], job: Job) -> None:
        self._sizes, self._job = positions, job
        self._done, self._whole = 0, sum(positions.values())
        self._began = time.monotonic()

    def level(self, n: int, name: str) -> Job:
        """Return the job of level `n`, whose reports become shares of the whole."""
        reported = -math.inf

        def report(progress: Progress) -> None:
            nonlocal reported
            now = time.monotonic()
            if now - reported < _PAUSE_S and progress.done != progress.total:
                return
            reported = now
            share = (self._done + self._sizes[n] * progress.done / progress.total) / self._whole
            values = {**progress.values, "level": float(n), "step": float(progress.done)}
            message = f"Editing {name}: step {progress.done} of {progress.total}"
            eta = (now - self._began) / share * (1 - share)
            done = int(_SHARES * share)
            self._job.on_progress(Progress(done, _SHARES, message, eta, values))

        return Job(report, self._job.cancelled)

    def finish(self, n: int) -> None:
        """Count a level that was solved."""
        self._done += self._sizes[n]
