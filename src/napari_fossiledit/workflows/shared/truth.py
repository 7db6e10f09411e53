"""Traced slices as training and judging need them: instances, and what must not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation import judged_area
from napari_fossiledit.evaluation.changes import class_masks, ground_classes
from napari_fossiledit.geometry import Region
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.project import ANNOTATIONS, Project

if TYPE_CHECKING:
    from napari_fossiledit.models.training.sampling import TracedSlice


@dataclass(frozen=True)
class Truth:
    """What is known of one traced slice.

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


def read_truth(project: Project, z: int, region: Region | None = None) -> Truth:
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
            expected=f"one of the traced slices {sorted(traced)}",
            found=z,
            advice="Import annotations for it, or mark it as traced in the window.",
        )
    area = _within(traced[z], region, project.slice_shape)
    bodies = project.ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)
    return Truth(z, tuple(bodies), area)


def ground_of(truths: Sequence[Truth]) -> set[str]:
    """Classes that everything else lies in, on every slice that shows anything else."""
    slices = [class_masks(t.instances, t.instances[0].mask.shape) for t in truths if t.instances]
    shown = [(set(classes), ground_classes(classes)) for classes in slices if len(classes) > 1]
    maybe = {name for _, ground in shown for name in ground}
    return {name for name in maybe if all(name in g for names, g in shown if name in names)}


def _within(area: Mask | None, region: Region | None, shape: tuple[int, int]) -> Mask | None:
    cut = area if region is None else judged_area(shape, area, region)
    if cut is not None and cut.area == 0:
        raise FossilError(
            "The region lies outside the traced area",
            expected=f"x below {shape[1]}, y below {shape[0]}, inside what was traced",
            found="the whole slice" if region is None else str(region),
        )
    return cut


def _counted(truth: Truth) -> list[Instance]:
    """Instances with a pixel in the traced area."""
    if truth.area is None:
        return list(truth.instances)
    shared = intersections([i.mask for i in truth.instances], [truth.area])[:, 0]
    return [i for i, pixels in zip(truth.instances, shared, strict=True) if pixels]


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
    ) -> None:
        self._project, self._classes = project, tuple(classes)
        self.slices, self.validation = tuple(slices), tuple(validation)
        truths = [read_truth(project, z, region) for z in (*slices, *validation)]
        self._truths = {truth.slice: truth for truth in truths}
        self._require_instances()

    @property
    def pixel_size_um(self) -> float | None:
        """Pixel size of the slices in um."""
        return self._project.geometry.pixel_size_um

    def read(self, z: int) -> TracedSlice:
        """Read slice `z` with what was traced on it."""
        from napari_fossiledit.models.training.sampling import TracedSlice

        truth = self._truths[z]
        ignore = None if truth.area is None else ~truth.area.to_array()
        return TracedSlice(self._project.stack.read(z), truth.instances, ignore)

    def _require_instances(self) -> None:
        learned = [i for z in self.slices for i in _counted(self._truths[z]) if not i.unsure]
        if not any(i.class_name in self._classes for i in learned):
            present = sorted({i.class_name for i in learned})
            raise FossilError(
                "There is nothing to learn on the chosen slices",
                expected=f"traced instances of {', '.join(self._classes)}",
                found=", ".join(present) or "no instance",
                advice="Check the slices, the region and the class names.",
            )
