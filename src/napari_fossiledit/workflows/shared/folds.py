"""Traced slices that something is fitted to which the model itself did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import read_json
from napari_fossiledit.geometry import Region, parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.models.files.places import RECORD
from napari_fossiledit.params.segment import CalibrateParams, RefineParams
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.workflows.shared.ground_truth import GroundTruth, read_ground_truth
from napari_fossiledit.workflows.shared.model_refs import (
    EditRef,
    ModelRef,
    find_model,
    require_kept,
)
from napari_fossiledit.workflows.shared.taught import read_teaching

FOLDS = 4
"""Most folds: what is traced in one is judged by a fit that never saw it."""

CHOSEN = "chosen_slices"
"""Key of the slices in the parameters of an edit's record."""


def what_to_fit(
    project: Project, params: CalibrateParams | RefineParams, *, unseen: bool = False
) -> tuple[ModelRef, list[GroundTruth]]:
    """Read the model that something is fitted to, and what is traced on the slices to fit it on.

    Parameters
    ----------
    unseen
        Where no slices are named: leave out those that the model was made with, if others remain.

    Raises
    ------
    FossilError
        Where the project cannot be written, there is no such model in it, or nothing is traced.
    """
    project.require_writable()
    ref = find_model(project, params.model)
    require_kept(ref)
    slices = slices_to_fit(project, params.slices)
    if unseen and not params.slices:
        slices = [z for z in slices if z not in trained_on(project, ref)] or slices
    region = Region.parse(params.region) if params.region else None
    return ref, [read_ground_truth(project, z, region) for z in slices]


def slices_to_fit(project: Project, text: str) -> list[int]:
    """Return the slices that were named, else those that are traced and not pinned.

    Raises
    ------
    FossilError
        Where there is none.
    """
    if text:
        return parse_slices(text, project.shape[0])
    slices = sorted(project.ledger.traced().keys() - project.settings.pinned_slices)
    if not slices:
        raise FossilError(
            "No slice is traced yet that could be learned from",
            expected="one or more traced slices that are not pinned",
            found="none",
            advice="Import annotations, or draw some and mark their slice as traced.",
        )
    return slices


def trained_on(project: Project, ref: ModelRef) -> set[int]:
    """Return the slices that a model was made with, and the edits it consists of.

    Those that chose its checkpoint are among them. Those that a model of another project was
    trained on are other slices.
    """
    count, seen = project.shape[0], set[int]()
    folders, met = [ref.root.folder.resolve()], set[Path]()
    # A model that was made anew under the name of one that it goes on from would be met for ever.
    while folders and (folder := folders.pop()) not in met:
        met.add(folder)
        if not (folder / RECORD).is_file() or project.path.resolve() not in folder.parents:
            break
        # Not by the registry of models, which loads torch: the window asks for this too.
        record = read_json(folder / RECORD, "the record of a model")
        training = record.get("training") or {}
        seen |= _slices_in(training, ("slices", "validation"), count)
        # It knows what the one that it went on from had seen, also where that is gone since.
        if (taught := read_teaching(project, folder.name)) is not None:
            seen |= _slices_in(taught.made_with, ("seen",), count)
        # The folder of that was written down as it was: the project may have been moved.
        before = Path(training.get("init") or "")
        own = project.path.resolve() / "models" / before.name
        if before.parts[-3:] == own.parts[-3:]:
            folders.append(own)
    while isinstance(ref, EditRef):
        seen |= edited_with(ref.record, count)
        ref = ref.parent
    return seen


def edited_with(record: EditRecord, count: int) -> set[int]:
    """Return the slices of a stack of `count` that an edit was made with, not those that judged."""
    chosen = record.params.get(CHOSEN)
    if not isinstance(chosen, dict):
        return set()
    return _slices_in(chosen, ("edit", "preserve", "tuning"), count)


def _slices_in(record: Mapping[str, Any], names: Sequence[str], count: int) -> set[int]:
    found: set[int] = set()
    for value in (record.get(name) for name in names):
        # A training is recorded with numbers, an edit with text.
        if isinstance(value, list):
            found |= {int(z) for z in value}
        elif isinstance(value, str) and value.strip():
            found |= {*parse_slices(value, count)}
    return found


def folds_of(
    found: Sequence[Sequence[Instance]], used: Sequence[NDArray[np.bool_]]
) -> list[NDArray[np.intp]]:
    """Divide what was found in each slice into folds, by slice.

    Where all that something is fitted to lies in one slice, that is divided from left to right.

    Parameters
    ----------
    used
        For each slice, which of its instances something is fitted to. A fold without any would
        leave nothing to fit to in the others, or nothing to judge by.
    """
    folds = [np.zeros(len(some), dtype=np.intp) for some in found]
    numbers = [n for n, ours in enumerate(used) if ours.any()]
    for k, n in enumerate(numbers):
        folds[n] += k % FOLDS
    if len(numbers) == 1:
        n = numbers[0]
        middles = np.array([(i.mask.box[1] + i.mask.box[3]) / 2 for i in found[n]])
        ours = middles[used[n]]
        # Of equal numbers of those used; the others come to their neighbour.
        order = ours.argsort().argsort() * FOLDS // len(ours)
        folds[n] = order[np.abs(middles[:, None] - ours).argmin(axis=1)]
        folds[n][used[n]] = order
    return folds
