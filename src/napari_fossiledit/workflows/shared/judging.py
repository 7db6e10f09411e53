"""Predict and judge slices with a model that is in memory, whether or not it was saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import JudgedSlice, judge
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.progress import Cancel, never
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.truth import Truth

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.segmenter import MaskRcnnSegmenter


def find_instances(
    segmenter: MaskRcnnSegmenter, project: Project, z: int, cancel: Cancel = never
) -> list[Instance]:
    """Predict one slice as the paper's protocol wants it: threshold 0, 100 detections."""
    return segmenter.predict(
        project.stack.read(z),
        slice_index=z,
        pixel_size_um=project.geometry.pixel_size_um,
        cancel=cancel,
    )


def judged_slice(
    project: Project, truth: Truth, found: Sequence[Instance], class_name: str
) -> JudgedSlice:
    """Reduce one slice to what counts."""
    return judge(
        truth.slice,
        project.slice_shape,
        truth.instances,
        found,
        class_name=class_name,
        area=truth.area,
    )


def slices_to_judge(project: Project, text: str) -> list[int]:
    """Return the slices that were named, else the pinned ones.

    Raises
    ------
    FossilError
        Where none was named and none is pinned, or one is not in the stack.
    """
    if text.strip():
        return parse_slices(text, project.shape[0])
    if project.settings.pinned_slices:
        return list(project.settings.pinned_slices)
    raise FossilError(
        "No slices to judge on were chosen",
        expected="slices such as 0,2,4-9, or pinned slices",
        found=f"no pinned slices in {project.path}",
        advice="Name traced slices that the model was not trained on, or pin some in the dock"
        ' "Stack": they only judge.',
    )
