"""Slices of an edit: which it learns from, preserves, is tuned and judged on, and how it sees them.

Slices and their perturbed versions are made one at a time, when the solver asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.masks import Mask
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.progress import Cancel, never
from napari_fossiledit.project import Project
from napari_fossiledit.stacks.window import ALONE, Window
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.model_refs import ModelRef
from napari_fossiledit.workflows.shared.perturbed_slices import prepared
from napari_fossiledit.workflows.shared.seen import seen

if TYPE_CHECKING:
    from napari_fossiledit.editing.examples import Pair

PRESERVED = 4
"""Slices that are preserved where none were named."""

HELD_OUT = 4
"""Slices that choose, and slices that judge, where none were named."""

TAUGHT_SHARE = 3
"""One of so many traced slices is edited with where nothing says which ones judge."""


@dataclass(frozen=True)
class EditSlices:
    """Slices by what they are used for.

    Attributes
    ----------
    edit
        Shown to the solver as they are and perturbed.
    preserve
        Whose output should stay.
    tuning
        Choose strength and score.
    pinned
        Only judge.
    """

    edit: tuple[int, ...]
    preserve: tuple[int, ...]
    tuning: tuple[int, ...]
    pinned: tuple[int, ...]

    def summary(self) -> dict[str, str]:
        """Return the slices as text."""
        return {name: format_slices(value) for name, value in vars(self).items()}


def choose_slices(project: Project, params: EditParams, ref: ModelRef) -> EditSlices:
    """Take the slices that were named, and fill in the others.

    Tuning and pinned slices are traced and, where nothing else was named, neither edited with nor
    trained on, by the edits below neither; of those at most `HELD_OUT` are taken, spread over the
    stack. Preserved slices are none of the others. The project's pinned slices only judge, also
    where other ones are to judge this edit.

    Raises
    ------
    FossilError
        Where no slice to edit with is named, one is not in the stack or not traced, or a slice
        would judge what it was used for.
    """
    count = project.shape[0]
    edit, pinned, tuning, preserve = (
        tuple(parse_slices(text, count)) if text.strip() else ()
        for text in (params.slices, params.pinned, params.tuning, params.preserve)
    )
    if not edit:
        raise FossilError(
            "No slice to edit with was chosen",
            expected="slices such as 24, or 4,14,24",
            advice="Choose a slice on which the model is wrong.",
        )
    pinned = pinned or tuple(project.settings.pinned_slices)
    reserved = {*pinned, *project.settings.pinned_slices}
    seen = {*edit, *reserved, *tuning, *preserve, *trained_on(project, ref)}
    # On what the model has seen it looks better than it is.
    held_out = [z for z in sorted(project.ledger.traced()) if z not in seen]
    if not tuning and not pinned and len(held_out) > 1:
        # Every second one judges, so that both kinds are spread over the stack.
        few = spread_over(held_out, 2 * HELD_OUT)
        tuning, pinned = few[::2], few[1::2]
    elif not pinned and tuning:
        pinned = spread_over(held_out, HELD_OUT)
    tuning = tuning or spread_over(held_out, HELD_OUT)
    chosen = EditSlices(edit, preserve, tuning, pinned)
    require_not_pinned(project, edit)
    _require_apart(chosen)
    traced = project.ledger.traced()
    untraced = sorted({*tuning, *pinned} - set(traced))
    if untraced:
        raise FossilError(
            f"Slices {format_slices(untraced)} are not traced and cannot judge an edit",
            expected=f"traced slices, {format_slices(sorted(traced)) or 'none'}",
            advice="Trace them, or choose others.",
        )
    used = {*edit, *pinned, *tuning, *reserved}
    free = [z for z in range(count) if z not in used]
    return replace(chosen, preserve=preserve or spread_over(free, PRESERVED))


def proposed_slices(project: Project, ref: ModelRef, wrong: Sequence[int] = ()) -> EditSlices:
    """Propose traced slices for an edit, for a user who names none.

    Slices that the model was made with teach, for they could not judge. Of the others one in
    three teaches, and the rest is divided between tuning and judging; where only one is left it
    judges. The project's pinned slices judge in any case.

    Parameters
    ----------
    wrong
        Slices on which the model is wrong, the worst first: of those that may teach, these do.
    """
    traced = set(project.ledger.traced())
    pinned = tuple(sorted(traced & {*project.settings.pinned_slices}))
    free = sorted(traced - {*project.settings.pinned_slices})
    made_with = trained_on(project, ref)
    taught = [z for z in free if z in made_with]
    unseen = [z for z in free if z not in taught]
    count = min(max(1, len(unseen) // TAUGHT_SHARE), HELD_OUT)
    candidates, count = (taught, HELD_OUT) if taught else (unseen, count)
    edit = tuple(sorted([z for z in wrong if z in candidates][:count]))
    edit = edit or spread_over(candidates, count)
    rest = [z for z in unseen if z not in edit]
    if not pinned:
        few = spread_over(rest, 2 * HELD_OUT)
        tuning, pinned = (few[::2], few[1::2]) if len(few) > 1 else ((), few)
    else:
        tuning = spread_over(rest, HELD_OUT)
    return EditSlices(edit, (), tuning, pinned)


def spread_over(slices: Sequence[int], most: int) -> tuple[int, ...]:
    """Take at most so many of some slices, spread over them."""
    count = min(most, len(slices))
    return tuple(slices[len(slices) * (2 * i + 1) // (2 * count)] for i in range(count))


def require_not_pinned(project: Project, slices: Collection[int]) -> None:
    """Raise where a slice to edit with is one that the project keeps for judging.

    Raises
    ------
    FossilError
        Where one of them is pinned, whether or not it judges this edit: later ones would be judged
        on what the model has seen.
    """
    both = sorted({*slices} & {*project.settings.pinned_slices})
    if both:
        raise FossilError(
            f"Slices {format_slices(both)} are pinned: they only judge",
            expected="slices to edit with that are not pinned",
            found=format_slices(both),
            advice="Choose others, or take the pin off.",
        )


def _require_apart(slices: EditSlices) -> None:
    """Raise where slices judge what they are used for, or choose what they are edited with."""
    uses = (
        ("pinned", "edit", "would judge an edit that they were edited with"),
        ("pinned", "tuning", "would judge an edit that they were tuned on"),
        ("pinned", "preserve", "would judge an edit that preserves them"),
        ("tuning", "edit", "would choose the strength of an edit that they were edited with"),
        ("tuning", "preserve", "would choose the strength of an edit that preserves them"),
    )
    for one, other, what in uses:
        both = sorted(set(getattr(slices, one)) & set(getattr(slices, other)))
        if both:
            raise FossilError(
                f"Slices {format_slices(both)} {what}",
                expected=f"{one} slices that are used for nothing else",
                advice="Choose others, or take them off the list.",
            )


def region_of(params: EditParams) -> Region | None:
    """Return the part of each slice that an edit is made and judged on; None: all.

    Raises
    ------
    FossilError
        Where it cannot be read.
    """
    return Region.parse(params.region) if params.region else None


# ------------------------------------------------------------- as the solver sees them


@dataclass(frozen=True)
class Recipe:
    """How one slice is shown to the solver.

    Attributes
    ----------
    slice
        Index of the slice.
    perturb
        What is done to it; says also whose instances are the fossils, and of which class.
    place
        Positions that count like fossils although they are none; None: none do.
    """

    slice: int
    perturb: PerturbParams
    place: Mask | None = None

    def summary(self) -> dict[str, Any]:
        """Return the recipe as JSON-able values."""
        shown = {"preset", "steps", "source", "source_score", "class_name"}
        done = self.perturb.model_dump(mode="json", include=shown)
        place = None if self.place is None else list(self.place.box)
        return {"slice": self.slice, **done, "place_box": place}


def shown_pair(
    project: Project,
    recipe: Recipe,
    params: EditParams,
    window: Window = ALONE,
    cancel: Cancel = never,
) -> Pair:
    """Read what a model sees of a slice, and perturb the slice itself by its recipe.

    Fossils weigh as `params` say.
    """
    from napari_fossiledit.editing.examples import Pair

    made = prepared(project, recipe.slice, recipe.perturb, cancel=cancel)
    heavy = [i.mask for i in made.instances if i.class_name == recipe.perturb.class_name]
    heavy += [] if recipe.place is None else [recipe.place]
    weight = None
    if params.fossil_weight != 1 and heavy:
        counts = union(heavy, project.slice_shape).to_array()
        weight = np.where(counts, params.fossil_weight, 1.0).astype(np.float32)
    counting = made.changed if params.marked_only else None
    region = region_of(params)
    if region is not None:
        inside = np.zeros(project.slice_shape, dtype=np.bool_)
        inside[region.slices(project.slice_shape)] = True
        counting = inside if counting is None else counting & inside
    before, after = (
        seen(project, window, recipe.slice, image) for image in (made.image, made.perturbed)
    )
    return Pair(before, after, weight, counting)


K = TypeVar("K")
V = TypeVar("V")


class Lazy(Sequence[V], Generic[K, V]):
    """Values that are made when they are asked for, each time anew: one is in memory at a time."""

    def __init__(self, make: Callable[[K], V], keys: Sequence[K]) -> None:
        self._make, self._keys = make, keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> V: ...
    @overload
    def __getitem__(self, index: slice) -> Lazy[K, V]: ...
    def __getitem__(self, index: int | slice) -> V | Lazy[K, V]:
        if isinstance(index, slice):
            return Lazy(self._make, self._keys[index])
        return self._make(self._keys[index])
