"""Traced slices that something is fitted to which the model itself did not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.model_refs import ModelRef

FOLDS = 4
"""Most folds: what is traced in one is judged by a fit that never saw it."""


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


def learned_slices(project: Project, ref: ModelRef) -> set[int]:
    """Return the slices of a project that a model was trained on."""
    from napari_fossiledit.models.files.registry import read_record

    root = ref.root
    if root.name not in project.models():
        return set()
    return {int(z) for z in read_record(root.folder).training.get("slices", ())}


def folds_of(number: int, slices: int, found: Sequence[Instance]) -> list[int]:
    """Return the fold of each instance that was found in one slice.

    Parameters
    ----------
    number, slices
        Which of the slices it is, and how many there are.
    """
    if slices > 1:
        return [number % FOLDS] * len(found)
    middles = np.array([(i.mask.box[1] + i.mask.box[3]) / 2 for i in found])
    # Of equal numbers of instances, from left to right: doubles of one come into one fold.
    order = middles.argsort().argsort()
    return [int(n) for n in order * FOLDS // max(len(found), 1)]
