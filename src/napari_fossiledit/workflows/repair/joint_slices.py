"""Which other slices a repair is edited with."""

from __future__ import annotations

from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Part
from napari_fossiledit.params.repair import RepairParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.edit.slices import spread_over, trained_on
from napari_fossiledit.workflows.shared.model_refs import ModelRef

_SHARE = 3
"""One of so many traced slices is edited with where nothing says which ones judge."""


def joint_slices(
    project: Project, params: RepairParams, ref: ModelRef, class_name: str
) -> tuple[int, ...]:
    """Choose traced slices to edit with jointly, so that the edit does not only fit one place.

    Those the model was trained on come first: they could not judge anyway. Where it was trained
    elsewhere, some others are taken, and enough are left to choose the strength and to judge.
    """
    count = project.shape[0]
    tuning, pinned = (
        set(parse_slices(text, count)) if text.strip() else set()
        for text in (params.tuning, params.pinned)
    )
    pinned |= set(project.settings.pinned_slices)
    bodies = project.ledger.instances(ANNOTATIONS, class_name=class_name, part=Part.BODY)
    showing = {i.slice for i in bodies} & set(project.ledger.traced())
    free = sorted(showing - {params.slice, *tuning, *pinned})
    known = [z for z in free if z in set(trained_on(project, ref))]
    if known:
        return spread_over(known, params.joint)
    most = len(free) if tuning and pinned else len(free) // _SHARE
    return spread_over(free, min(params.joint, most))
