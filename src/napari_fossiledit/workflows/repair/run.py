"""The shortest way from a wrong mask to a judged edit.

The place is perturbed to find out what misleads the model there; then an edit is proposed, solved
and judged like any other, with the place counting as much as a fossil.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.evaluation import Change, changes
from napari_fossiledit.geometry import check_slice
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.repair import RepairParams
from napari_fossiledit.params.segment import PredictParams
from napari_fossiledit.perturb import SliceScene, perturb
from napari_fossiledit.perturb.scene import Image
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.edit.choice import Trial, best
from napari_fossiledit.workflows.edit.judging import SEEN
from napari_fossiledit.workflows.edit.pairs import Recipe
from napari_fossiledit.workflows.edit.run import EditWork, completed
from napari_fossiledit.workflows.edit.slices import choose_slices, require_not_pinned
from napari_fossiledit.workflows.repair.causes import (
    Outcome,
    PlaceTest,
    fitting_tests,
    misled_by,
    outcome,
    ranking,
    with_flat_mud,
)
from napari_fossiledit.workflows.repair.joint_slices import joint_slices
from napari_fossiledit.workflows.repair.place import Found, Place, find_place
from napari_fossiledit.workflows.repair.proposal import (
    Known,
    known_of,
    proposed,
    recipe_for,
    require_wrong,
)
from napari_fossiledit.workflows.repair.report import around, write_page
from napari_fossiledit.workflows.repair.result import RepairResult, mended
from napari_fossiledit.workflows.segment.predict import predict_missing
from napari_fossiledit.workflows.shared.crops import default_crop, read_crop
from napari_fossiledit.workflows.shared.judging import find_instances
from napari_fossiledit.workflows.shared.model_refs import ModelRef, find_model, require_kept
from napari_fossiledit.workflows.shared.perturbed_slices import mud_colour

if TYPE_CHECKING:
    from napari_fossiledit.editing.solve import Solution
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter

_MILDEST = (
    "No traced slice is left to choose the strength on: the mildest one that repairs the place was"
    " taken."
)


def run(
    project_path: Path,
    params: RepairParams,
    *,
    job: Job = QUIET,
) -> RepairResult:
    """Find out what misleads a model at a place, and propose an edit that mends it.

    Raises
    ------
    FossilError
        Where there is no such model, slice or instance, the mask is right by the tracing, the name
        is taken, or memory or disk do not suffice.
    CancelledError
        Where it is cancelled before the edit is saved; a saved edit stays a proposal.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        # At once, not after minutes of predicting and probing.
        require_not_pinned(project, [check_slice(params.slice, project.shape[0])])
        ref = find_model(project, params.model)
        require_kept(ref)
        with project.ledger.recorded("repair", params.model_dump(mode="json")) as summary:
            repair = _prepared(project, params, ref, job)
            result = repair.result()
            result = replace(result, page=write_page(project, result))
            summary.update(result.summary())
    return result


def _prepared(
    project: Project,
    params: RepairParams,
    ref: ModelRef,
    job: Job,
) -> _Repair:
    """Predict the slice, find the place, and settle what the edit is made with."""
    wanted = PredictParams(model=params.model, device=params.device)
    done = predict_missing(project, wanted, [params.slice], job=job)
    class_name = project.settings.classes[0]
    place = find_place(project, params, ref.name, done.source, class_name)
    known = known_of(project, place, done.source)
    require_wrong(place, known)
    joint = joint_slices(project, params, ref, place.class_name)
    edit = completed(project, proposed(params, place, joint))
    slices = choose_slices(project, edit, ref)
    here = recipe_for(edit, params, place, known)
    recipes = [here if z == place.slice else Recipe(z, edit) for z in slices.edit]
    work = EditWork(project, edit, ref, slices, job, recipes)
    return _Repair(work, place, known, done.source)


class _Repair:
    """One repair, from the tests to the judgement."""

    def __init__(self, work: EditWork, place: Place, known: Known, source: str) -> None:
        self.work, self.project = work, work.project
        self.place, self.known, self.source = place, known, source
        self.skipped: list[str] = []

    def result(self) -> RepairResult:
        segmenter = self.work.ref.load(self.work.params.device)
        before = self.place.found_in(self._found_before)
        self._require_found(before)
        tests = self._tests(segmenter)
        solution = self.work.solve(segmenter)
        tried = self.work.trials(segmenter, solution)
        found = self._at_strengths(segmenter, solution)
        at = {s: self.place.found_in(instances) for s, instances in found.items()}
        strength, score = self._choose(tried, before, at)
        edited = self.work.judge(self.work.save(solution, tried, strength, score))
        told = misled_by(self.place, before, tests, self.neighbour)
        after = at[strength]
        changed = self._changes(before, found[strength])
        ranked, skipped = tuple(ranking(tests)), tuple(self.skipped)
        return RepairResult(self.place, told, ranked, before, after, at, edited, changed, skipped)

    def _require_found(self, before: Found) -> None:
        if not self.place.missed and not before.response:
            raise FossilError(
                f"{self.work.ref.name} does not find the {self.place} when it predicts the slice"
                " with its usual options",
                advice="Choose a mask of a prediction without tiles and with the usual options.",
            )

    @cached_property
    def _found_before(self) -> list[Instance]:
        return self.project.instances(self.source, self.place.slice)

    @cached_property
    def image(self) -> Image:
        """The slice."""
        return self.project.stack.read(self.place.slice)

    @cached_property
    def neighbour(self) -> str:
        """Class that the place lies on or is framed by."""
        return self.place.neighbour(self.known.instances) if self.known.traced else ""

    # ----------------------------------------------------------------- tests

    def _tests(self, segmenter: MaskRcnnSegmenter) -> list[Outcome]:
        texture = self._texture()
        tests = fitting_tests(
            self.place,
            self.neighbour,
            coloured=self.image.ndim == 3,
            textured=bool(texture),
        )
        scene = self._scene(texture)
        clock = self.work.job.clock(len(tests))
        found = []
        for done, test in enumerate(tests):
            self.work.job.check("The repair")
            clock.tick(done, f"Trying what misleads the model: {test.words}")
            found.append(self._test(segmenter, test, scene))
        return found

    def _texture(self) -> str:
        """Crop of the pitted texture; empty where there is none or it is not needed."""
        if not self.place.missed:
            return ""
        try:
            return default_crop(self.project, self.place.class_name)
        except FossilError as error:
            self.skipped.append(f"The pitted texture was not tried: {error}")
            return ""

    def _scene(self, texture: str) -> SliceScene:
        z, instances = self.place.slice, self.known.instances
        mud = mud_colour(self.project, z, self.work.params, self.image, instances)
        read = partial(read_crop, self.project)
        return SliceScene(
            self.image, instances, mud, lambda crop: read(crop or texture), None, f"slice {z}"
        )

    def _test(self, segmenter: MaskRcnnSegmenter, test: PlaceTest, scene: SliceScene) -> Outcome:
        """Perturb the slice, predict it, and look at the place."""
        test, made = self._perturbed(test, scene)
        found = segmenter.predict(
            made,
            slice_index=self.place.slice,
            pixel_size_um=self.project.geometry.pixel_size_um,
            cancel=self.work.job.cancelled,
        )
        y0, x0, y1, x1 = around(self.place)
        return outcome(self.place, test, self._found_before, found, made[y0:y1, x0:x1].copy())

    def _perturbed(self, test: PlaceTest, scene: SliceScene) -> tuple[PlaceTest, Image]:
        """Perturb with real mud, or with its colour where the slice shows too little of it."""
        cancel = self.work.job.cancelled
        try:
            return test, perturb(scene, [test.step], cancel=cancel).image
        except CancelledError:
            raise
        except FossilError:
            flat = with_flat_mud(test)
            return flat, perturb(scene, [flat.step], cancel=cancel).image

    # -------------------------------------------------------------- choosing

    def _at_strengths(
        self, segmenter: MaskRcnnSegmenter, solution: Solution
    ) -> dict[float, list[Instance]]:
        """Instances of the slice at all strengths; 0 is without the edit."""
        work, z = self.work, self.place.slice
        wanted = sorted({*work.strengths} - {0.0})
        found = {0.0: self._found_before}
        clock = work.job.clock(len(wanted))
        for done, strength in enumerate(wanted):
            work.job.check("Looking at the place")
            clock.tick(done, f"Looking at the place at strength {strength:g}")
            edited = solution.edit.apply(segmenter, strength)
            found[strength] = find_instances(edited, self.project, z, work.job.cancelled)
        return found

    def _choose(
        self, tried: Sequence[Trial], before: Found, at: dict[float, Found]
    ) -> tuple[float, float]:
        """Choose a strength that mends the place and is accepted; else as for any edit."""
        mending = [s for s, f in at.items() if s and mended(self.place, before, f)]
        good = [t for t in tried if t.accepted and t.strength in mending]
        if good:
            chosen = best(good)
            return chosen.strength, chosen.score
        if mending and not tried:
            self.work.notes.append(_MILDEST)
            return min(mending), 0.0
        return self.work.choose(tried)

    def _changes(self, before: Found, found: Sequence[Instance]) -> tuple[Change, ...]:
        """Compare the instances of the slice, from a score on that shows the wrong mask."""
        least = SEEN if self.place.missed else min(SEEN, before.score)
        old, new = ([i for i in f if i.score >= least] for f in (self._found_before, found))
        truths = self.known.instances if self.known.traced else ()
        return changes(old, new, truths=truths)
