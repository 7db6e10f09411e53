"""Traced slices as training and judging need them: what is there, and what must not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import JudgedSlice, judge, judged_area
from napari_fossiledit.evaluation.changes import class_masks, ground_classes
from napari_fossiledit.geometry import Region, format_slices, parse_slices
from napari_fossiledit.masks import Instance, Mask, Part, cut_at
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.progress import Cancel, never
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.window import ALONE, Window
from napari_fossiledit.workflows.shared.seen import seen

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.protocol import Segmenter
    from napari_fossiledit.models.training.sampling import TrainingSlice


@dataclass(frozen=True)
class GroundTruth:
    """The tracing of one slice.

    Attributes
    ----------
    slice
        Index of the slice.
    instances
        Bodies of every class, those marked unsure included.
    area
        The traced area: outside of it nothing is known; None: the whole slice.
    """

    slice: int
    instances: tuple[Instance, ...]
    area: Mask | None


def read_ground_truth(project: Project, z: int, region: Region | None = None) -> GroundTruth:
    """Read the traced instances of slice `z` and the area they are complete in.

    Raises
    ------
    FossilError
        Where the slice was never traced.
    """
    traced = project.ledger.traced()
    if z not in traced:
        raise FossilError(
            f"Slice {z} is not traced",
            expected=f"one of the traced slices ({format_slices(sorted(traced)) or 'none yet'})",
            found=z,
            advice="Import annotations for it, or mark it as traced in the window.",
        )
    shape, area = project.slice_shape, traced[z]
    if region is not None:
        area = judged_area(shape, area, region)
    if area is not None and area.area == 0:
        raise FossilError(
            "The region lies outside the traced area",
            expected=f"x below {shape[1]}, y below {shape[0]}, inside what was traced",
            found="the whole slice" if region is None else str(region),
        )
    bodies = project.ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)
    return GroundTruth(z, tuple(bodies), area)


def find_instances(
    segmenter: Segmenter,
    project: Project,
    z: int,
    cancel: Cancel = never,
    *,
    mask_cut: float = MASK_CUT,
) -> list[Instance]:
    """Predict one slice by the paper's protocol (threshold 0, 100 detections); nothing is saved.

    Parameters
    ----------
    mask_cut
        Probability at which the masks end.
    """
    found = segmenter.predict(
        seen(project, segmenter.preprocessing.window, z),
        slice_index=z,
        pixel_size_um=project.geometry.pixel_size_um,
        cancel=cancel,
    )
    return cut_at(found, mask_cut, "this model")


def judged_slice(
    project: Project, truth: GroundTruth, predicted: Sequence[Instance], class_name: str
) -> JudgedSlice:
    """Compare the predictions of one slice with its tracing."""
    return judge(
        truth.slice,
        project.slice_shape,
        truth.instances,
        predicted,
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
        advice="Name traced slices that the model was not trained on, or pin some"
        " (right-click a slice in the strip below the photograph): they only judge.",
    )


def ground_of(truths: Sequence[GroundTruth]) -> set[str]:
    """Return the classes that everything else lies in, on every slice that shows anything else."""
    slices = [class_masks(t.instances, t.instances[0].mask.shape) for t in truths if t.instances]
    shown = [(set(classes), ground_classes(classes)) for classes in slices if len(classes) > 1]
    maybe = {name for _, ground in shown for name in ground}
    return {name for name in maybe if all(name in g for names, g in shown if name in names)}


class ProjectSamples:
    """Traced slices of a project, read one at a time, as training takes them.

    Parameters
    ----------
    slices, validation
        Slices to learn from, and slices that choose the best checkpoint.
    classes
        Classes to learn.
    region
        Part of each slice to use; None: all that was traced.
    window
        What the model sees with each slice.

    Raises
    ------
    FossilError
        Where a slice is not traced, or none shows an instance of the classes.
    """

    def __init__(
        self,
        project: Project,
        slices: Sequence[int],
        validation: Sequence[int],
        classes: Sequence[str],
        region: Region | None = None,
        window: Window = ALONE,
    ) -> None:
        self._project, self._classes, self._window = project, tuple(classes), window
        self.slices, self.validation = tuple(slices), tuple(validation)
        truths = [read_ground_truth(project, z, region) for z in (*slices, *validation)]
        self._truths = {truth.slice: truth for truth in truths}
        present: set[str] = set()
        for truth in (self._truths[z] for z in self.slices):
            instances = [i for i in truth.instances if not i.unsure]
            if truth.area is not None:
                shared = intersections([i.mask for i in instances], [truth.area])[:, 0]
                instances = [i for i, pixels in zip(instances, shared, strict=True) if pixels]
            present.update(i.class_name for i in instances)
        if not present & {*self._classes}:
            raise FossilError(
                "There is nothing to learn on the chosen slices",
                expected=f"traced instances of {', '.join(self._classes)}",
                found=", ".join(sorted(present)) or "no instance",
                advice="Check the slices, the region and the class names.",
            )

    @property
    def pixel_size_um(self) -> float | None:
        """Pixel size of the slices in um."""
        return self._project.geometry.pixel_size_um

    def read(self, z: int) -> TrainingSlice:
        """Read slice `z` with what was traced on it."""
        from napari_fossiledit.models.training.sampling import TrainingSlice

        truth = self._truths[z]
        ignore = None if truth.area is None else ~truth.area.to_array()
        return TrainingSlice(seen(self._project, self._window, z), truth.instances, ignore)
