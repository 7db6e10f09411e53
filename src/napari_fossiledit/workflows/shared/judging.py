"""Predict and judge slices with a model that is in memory, whether or not it was saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from napari_fossiledit.evaluation import JudgedSlice, judge
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


def judged_slices(
    project: Project,
    truths: Sequence[Truth],
    class_name: str,
    found: Callable[[int], Sequence[Instance]],
) -> Iterator[JudgedSlice]:
    """Judge one slice after the other; `found` gives the instances of a slice."""
    for truth in truths:
        yield judged_slice(project, truth, found(truth.slice), class_name)
