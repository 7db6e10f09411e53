"""Which slices an edit learns from, what it must leave alone, what chooses and what judges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.workflows.shared.model_refs import EditRef, ModelRef

PRESERVED = 4
"""Slices that are preserved where none were named."""

HELD_OUT = 4
"""Slices that choose, and slices that judge, where none were named."""

CHOSEN = "chosen_slices"
"""Under which name the parameters of an edit tell its slices."""


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

    def summary(self) -> dict[str, Any]:
        """Tell the slices as text."""
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
    edit = _named(params.slices, project)
    if not edit:
        raise FossilError(
            "No slice to edit with was chosen",
            expected="slices such as 24, or 4,14,24",
            advice="Choose a slice on which the model is wrong.",
        )
    pinned = _named(params.pinned, project) or tuple(project.settings.pinned_slices)
    tuning, preserve = (_named(text, project) for text in (params.tuning, params.preserve))
    reserved = {*pinned, *project.settings.pinned_slices}
    held_out = held_out_slices(project, ref, {*edit, *reserved, *tuning, *preserve})
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
    _require_traced(project, chosen)
    used = {*edit, *pinned, *tuning, *reserved}
    free = [z for z in range(project.shape[0]) if z not in used]
    return replace(chosen, preserve=preserve or spread_over(free, PRESERVED))


def _named(text: str, project: Project) -> tuple[int, ...]:
    return tuple(parse_slices(text, project.shape[0])) if text.strip() else ()


def held_out_slices(project: Project, ref: ModelRef, used: Collection[int]) -> tuple[int, ...]:
    """Traced slices that neither this edit nor the model has seen."""
    seen = {*used, *trained_on(project, ref)}
    return tuple(z for z in sorted(project.ledger.traced()) if z not in seen)


def trained_on(project: Project, ref: ModelRef) -> Sequence[int]:
    """Slices that a model was made with, and the edits it consists of.

    Those that a model of another project was trained on are other slices.
    """
    seen = set(_trained_on(project, ref.root.folder))
    while isinstance(ref, EditRef):
        seen.update(edited_with(ref.record, project.shape[0]))
        ref = ref.parent
    return sorted(seen)


def _trained_on(project: Project, folder: Path) -> set[int]:
    """Slices that taught a model of this project, and those that chose its checkpoint."""
    if not (folder / RECORD).is_file() or project.path.resolve() not in folder.resolve().parents:
        return set()
    from napari_fossiledit.models.files.registry import read_record

    return _told(read_record(folder).training, ("slices", "validation"), project.shape[0])


def edited_with(record: EditRecord, count: int) -> set[int]:
    """Slices of a stack of `count` that an edit was made with: all but those that judged it."""
    told = record.params.get(CHOSEN)
    return _told(told, ("edit", "preserve", "tuning"), count) if isinstance(told, dict) else set()


def _told(record: Mapping[str, Any], names: Sequence[str], count: int) -> set[int]:
    """Slices that a record tells under some names."""
    texts = [record.get(name) for name in names]
    return {z for t in texts if isinstance(t, str) and t.strip() for z in parse_slices(t, count)}


def spread_over(slices: Sequence[int], most: int) -> tuple[int, ...]:
    """Take at most so many of some slices, spread over them."""
    count = min(most, len(slices))
    return tuple(slices[len(slices) * (2 * i + 1) // (2 * count)] for i in range(count))


def require_not_pinned(project: Project, slices: Collection[int]) -> None:
    """Refuse to edit with slices that the project keeps for judging.

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
    """Refuse slices that judge what they are used for, or choose what they are edited with."""
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


def _require_traced(project: Project, slices: EditSlices) -> None:
    untraced = sorted({*slices.tuning, *slices.pinned} - set(project.ledger.traced()))
    if untraced:
        raise FossilError(
            f"Slices {format_slices(untraced)} are not traced and cannot judge an edit",
            expected=f"traced slices, {format_slices(sorted(project.ledger.traced())) or 'none'}",
            advice="Trace them, or choose others.",
        )
