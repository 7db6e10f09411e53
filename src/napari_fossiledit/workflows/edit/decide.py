"""Edits as values: list them, decide about them, combine them, write them out.

Applying and rolling back only say which model is in use. The parent of an edit is never changed,
and predictions are stored under the hash of their model, so that rolling back gives the very same
predictions as before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import appearing, require_empty
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.params.segment import Device
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import EditRecord, EditState, Project
from napari_fossiledit.project.edit_record import STRONGEST, UNJUDGED
from napari_fossiledit.workflows.edit.result import (
    DecisionResult,
    HistoryResult,
    ModelExport,
    NewEditResult,
    ShowResult,
)
from napari_fossiledit.workflows.shared.folds import CHOSEN, edited_with
from napari_fossiledit.workflows.shared.model_refs import (
    EditRef,
    ModelRef,
    find_model,
    history_of,
    in_use,
    require_free_name,
    set_in_use,
)

if TYPE_CHECKING:
    from napari_fossiledit.editing.edit import Edit

# ------------------------------------------------------------------- looking


def listing(project_path: Path, *, job: Job = QUIET) -> HistoryResult:
    """List models and edits, each below what it was made from; loads no weights."""
    with Project.open(project_path, read_only=True) as project:
        return HistoryResult(history_of(project), in_use(project))


def show(project_path: Path, name: str, *, job: Job = QUIET) -> ShowResult:
    """Return all that is known of an edit.

    Raises
    ------
    FossilError
        Where there is no such edit, or its record is damaged.
    """
    with Project.open(project_path, read_only=True) as project:
        edits = project.edits
        return ShowResult(edits.read(name), edits.place(name), tuple(edits.children(name)))


# ------------------------------------------------------------------ deciding


def apply(
    project_path: Path,
    name: str,
    strength: float | None = None,
    score: float | None = None,
    *,
    job: Job = QUIET,
) -> DecisionResult:
    """Keep an edit and use the model with it from now on.

    The edits below it are kept as well, for they are part of it.

    Parameters
    ----------
    strength, score
        Share of the edit and score threshold from now on; None: as they are.

    Raises
    ------
    FossilError
        Where there is no such edit, it does not fit its parent any more, its weights are damaged,
        or its strength cannot change because other edits were made on top of it.
    """
    params = {"name": name, "strength": strength, "score": score}
    _require_between("strength", strength, -STRONGEST, STRONGEST)
    _require_between("score threshold", score, 0, 1)
    with Project.open(project_path) as project:
        project.require_writable()
        ref = find_edit(project, name)
        _require_judged(ref.record)
        with project.ledger.recorded("edits apply", params) as summary:
            changes = _at_strength(project, ref, strength)
            if score is not None:
                changes["score"] = score
            job.check("The edit")
            record = project.edits.update(name, state=EditState.KEPT, **changes)
            also = _decided(project, ref.below, EditState.KEPT)
            set_in_use(project, name)
            result = DecisionResult(record, name, also)
            summary.update(result.summary())
    return result


def _require_judged(record: EditRecord) -> None:
    """Raise where the program ended between saving and judging an edit."""
    if record.judged.get(UNJUDGED):
        raise FossilError(
            f"The edit {record.name!r} was saved, but the program ended before it was judged",
            expected="an edit that was looked at on the pinned slices",
            found="no figures",
            advice="Make it again with the same name and settings, which only judges it.",
        )


def _require_between(what: str, value: float | None, low: float, high: float) -> None:
    """Raise where a number is out of its bounds, NaN too."""
    if value is not None and not low <= value <= high:
        raise FossilError(
            f"The {what} of an edit cannot be {value}", expected=f"{low:g} to {high:g}", found=value
        )


def _at_strength(project: Project, ref: EditRef, strength: float | None) -> dict[str, Any]:
    """Return what changes in the record with the strength; the weights are tried either way."""
    old = ref.record.strength
    new = old if strength is None else strength
    # Those that were made at another strength do not fit this one anyway.
    above = (r for r in project.edits.sound() if r.parent == ref.name)
    children = [r.name for r in above if r.parent_hash == ref.record.result_hash]
    if new != old and children:
        raise FossilError(
            f"The strength of {ref.name!r} cannot change: other edits were made on top of it",
            expected=f"strength {old}",
            found=f"{new}, and edits {', '.join(children)}",
            advice="Copy it with 'fossiledit edits compose' and set the strength of the copy.",
        )
    changes: dict[str, Any] = {"strength": new, "result_hash": ref.at_strength(new).model_hash}
    if new != old and ref.record.judged:
        # The figures stay true of the strength they were taken at.
        changes["judged"] = {"strength": old, **ref.record.judged}
    return changes


def rollback(project_path: Path, name: str, *, job: Job = QUIET) -> DecisionResult:
    """Take an edit back, and those on top of it: its parent is in use again.

    Where a model is in use that does not hold the edit, it stays in use.

    Raises
    ------
    FossilError
        Where there is no such edit.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        record = project.edits.read(name)
        with project.ledger.recorded("edits rollback", {"name": name}) as summary:
            job.check("The edit")
            above = project.edits.descendants(name)
            if in_use(project) in ("", name, *above):
                set_in_use(project, record.parent)
            also = _decided(project, above, EditState.ROLLED_BACK)
            record = project.edits.update(name, state=EditState.ROLLED_BACK)
            result = DecisionResult(record, in_use(project), also)
            summary.update(result.summary())
    return result


def find_edit(project: Project, name: str) -> EditRef:
    """Find an edit, as `find_model` does, and nothing but an edit.

    Raises
    ------
    FossilError
        Where there is no such edit, or what it was made from is gone.
    """
    project.edits.read(name)
    ref = find_model(project, name)
    if not isinstance(ref, EditRef):
        raise FossilError(f"{name!r} is no edit", expected="an edit", found="a model")
    return ref


def _decided(project: Project, names: Sequence[str], state: EditState) -> tuple[str, ...]:
    """Give edits a state; return those that had another one."""
    others = [name for name in names if project.edits.read(name).state is not state]
    for name in others:
        project.edits.update(name, state=state)
    return tuple(others)


# --------------------------------------------------------- writing, combining


def export(
    project_path: Path,
    name: str,
    out: Path,
    *,
    job: Job = QUIET,
) -> ModelExport:
    """Write a model with its edits as a model folder of its own.

    Raises
    ------
    FossilError
        Where there is no such edit, `out` is not empty, or the disk is full.
    """
    with Project.open(project_path, read_only=True) as project:
        ref = find_edit(project, name)
        require_empty(out, "a model")
        segmenter = ref.load(Device.CPU)
        job.check("The export")
        from napari_fossiledit.models.files.registry import read_record, save_model

        chain: list[dict[str, Any]] = []
        edited: ModelRef = ref
        while isinstance(edited, EditRef):
            fields = {"name", "strength", "score", "params"}
            chain.insert(0, edited.record.model_dump(mode="json", include=fields))
            edited = edited.parent
        training = read_record(ref.root.folder).training | {"edits": chain}
        with appearing(out) as folder:
            record = save_model(segmenter, folder, training=training)
    return ModelExport(name, out, record.model_hash)


def compose(
    project_path: Path,
    names: Sequence[str],
    new: str,
    *,
    job: Job = QUIET,
) -> NewEditResult:
    """Add up edits, each at its strength, to one new edit of what the first was made from.

    One name makes a copy. A chain gives the model at its end again, up to rounding.

    Raises
    ------
    FossilError
        Where no edit is named, one is missing or would be added twice, they do not go back to the
        same model, or the new name is taken.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        require_free_name(project, new)
        refs = _summable(project, names)
        from napari_fossiledit.editing.edit import Edit

        total = Edit()
        for ref in job.tracked(refs, len(refs), "Adding up edits"):
            total = total.composed(ref.edit.scaled(ref.record.strength))
        parts = [{"name": r.name, "strength": r.record.strength} for r in refs]
        note = "Sum of " + ", ".join(f"{r.name} at {r.record.strength:g}" for r in refs)
        seen = set[int]().union(*(edited_with(r.record, project.shape[0]) for r in refs))
        params = {"composed": parts, CHOSEN: {"edit": format_slices(sorted(seen))}}
        return save_edit(project, refs[0].parent, total, new, params, note)


def _summable(project: Project, names: Sequence[str]) -> list[EditRef]:
    """Find the edits to add up; raise where their sum makes no sense."""
    if not names or len(set(names)) < len(names):
        raise FossilError(
            "These edits cannot be added up",
            expected="one or more edits, each named once",
            found=", ".join(names) or "none",
        )
    refs = [find_edit(project, name) for name in names]
    if len({ref.root.model_hash for ref in refs}) > 1:
        raise FossilError(
            "Edits of different models cannot be added up",
            expected="edits that go back to one model",
            found=", ".join(f"{ref.name} of {ref.root.name}" for ref in refs),
        )
    # The sum is an edit of what the first one was made from, which holds the edits below it.
    twice = [ref.name for ref in refs if ref.name in refs[0].below]
    if twice:
        raise FossilError(
            f"{refs[0].name!r} was made on top of {', '.join(twice)}, which would be added twice",
            expected="the edit next to the model first",
            found=", ".join(ref.name for ref in refs),
            advice="Leave them out, or name them first.",
        )
    return refs


def invert(
    project_path: Path,
    name: str,
    new: str,
    *,
    job: Job = QUIET,
) -> NewEditResult:
    """Make a new edit on top of an edit that takes it away, up to rounding.

    To have exactly the model before the edit, roll back. The inverse is for taking an edit out of
    a chain whose later edits stay, with `compose`.

    Raises
    ------
    FossilError
        Where there is no such edit, or the new name is taken.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        require_free_name(project, new)
        ref = find_edit(project, name)
        inverse = ref.edit.scaled(ref.record.strength).inverted()
        job.check("The edit")
        note = f"Inverse of {name} at {ref.record.strength:g}"
        return save_edit(project, ref, inverse, new, {"inverted": name}, note)


def save_edit(
    project: Project,
    parent: ModelRef,
    edit: Edit,
    name: str,
    params: dict[str, Any],
    note: str = "",
    **fields: Any,
) -> NewEditResult:
    """Save a proposed edit of a model, tried on it first.

    Parameters
    ----------
    fields
        More fields of the record, such as ``losses``, ``judged`` or ``score``.

    Raises
    ------
    FossilError
        Where the edit does not fit, the name is taken, or the disk is full.
    """
    from napari_fossiledit import __version__

    below = parent.load(Device.CPU)
    strength = float(fields.pop("strength", 1.0))
    fields = {
        "drift": edit.drift(below),
        "versions": {"napari-fossiledit": __version__},
        **fields,
    }
    record = EditRecord(
        name=name,
        parent=parent.address,
        parent_hash=below.model_hash,
        result_hash=edit.apply(below, strength).model_hash,
        model=parent.root.address,
        params=params,
        strength=strength,
        note=note,
        **fields,
    )
    require_free_name(project, name)
    saved = project.edits.save(record, edit.to_bytes({"parent_hash": below.model_hash}))
    return NewEditResult(saved, project.edits.place(name))
