"""Specimens of a project, one after the other: their instances and their surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.reconstruct import MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, LABELS, Project
from napari_fossiledit.reef import (
    SpecimenRow,
    Surface,
    build_surface,
    measure,
    sections_of,
    simplified,
)
from napari_fossiledit.workflows.shared.sources import find_source

LINKED = "linked"
"""Key in the ledger: source and class that were linked last."""

# Share by which mesh and outlines may differ in volume before the user is warned.
_VOLUME_TOLERANCE = 0.02


@dataclass(frozen=True, order=True)
class SpecimenKey:
    """Identity of a specimen: numbers begin anew in each class."""

    class_name: str
    specimen: int


@dataclass(frozen=True)
class Reconstructed:
    """One specimen with its surface, in the frame of the stack."""

    key: SpecimenKey
    instances: tuple[Instance, ...]
    surface: Surface


@dataclass
class Specimens:
    """The instances of each specimen of a source.

    Of a source in the ledger only ids are held, and masks are read a specimen at a time. The
    geometry of corrected labels is in voxels, which are read once, slice by slice, and held as
    run-length codes.
    """

    project: Project
    source: str
    ids: dict[SpecimenKey, list[int]] = field(default_factory=dict)
    painted: dict[SpecimenKey, list[Instance]] = field(default_factory=dict)

    @property
    def keys(self) -> list[SpecimenKey]:
        """All specimens, by class and number."""
        return sorted({*self.ids, *self.painted})

    def instances(self, key: SpecimenKey) -> list[Instance]:
        """Bodies and cavities of one specimen, slice by slice."""
        if key in self.painted:
            return self.painted[key]
        instances = self.project.ledger.instances(self.source, ids=self.ids[key])
        return [i for i in instances if i.class_name == key.class_name]


def slices_of(project: Project, source: str) -> list[int]:
    """Return the slices in which a source has instances, ascending."""
    if source != LABELS:
        return sorted(z for z, count in project.ledger.counts(source).items() if count)
    if not project.labels.exists:
        return []
    return [z for z in range(project.shape[0]) if project.labels.read(z).any()]


def find_linkable(project: Project, text: str) -> str:
    """Return the source that a user means; labels are one as soon as anything was painted."""
    return LABELS if text == LABELS and project.labels.exists else find_source(project, text)


def linked_source(project: Project, text: str) -> tuple[str, list[str]]:
    """Return the source whose specimens are used, and the classes to look at.

    Parameters
    ----------
    text
        Source as the user names it; empty: the one linked last, else the annotations.
    """
    linked = project.ledger.get_meta(LINKED) or {}
    source = find_linkable(project, text) if text else linked.get("source", ANNOTATIONS)
    classes = set(project.settings.classes)
    if linked.get("source") == source:
        classes.add(linked["class_name"])
    return source, sorted(classes)


def read_specimens(project: Project, text: str, job: Job = QUIET) -> Specimens:
    """List the specimens of a source.

    Raises
    ------
    FossilError
        Where no instance of the source belongs to a specimen.
    """
    source, classes = linked_source(project, text)
    specimens = Specimens(project, source)
    slices = slices_of(project, source)
    for z in job.tracked(slices, len(slices), "Listing specimens"):
        for instance in project.instances(source, z):
            if instance.class_name not in classes or instance.specimen is None:
                continue
            key = SpecimenKey(instance.class_name, instance.specimen)
            if source == LABELS:
                specimens.painted.setdefault(key, []).append(instance)
            elif instance.id is not None:
                specimens.ids.setdefault(key, []).append(instance.id)
    if not specimens.keys:
        raise FossilError(
            f"{project.path} has no specimens in {source}",
            expected=f"linked instances of {', '.join(classes)}",
            advice=f"Link them first: fossiledit link {project.path} --source {source}.",
        )
    return specimens


def count_linked(project: Project) -> int:
    """Return the number of specimens that the last linking made."""
    linked = [run for run in project.ledger.runs() if run.kind == "link" and run.summary]
    return int(linked[-1].summary.get("specimens", 0)) if linked else 0


def each_specimen(project: Project, params: MeshParams, job: Job) -> Iterator[Reconstructed]:
    """Build the surfaces of all specimens of a source, one at a time.

    Specimens without a pixel are left out (an annotation may be empty).

    Raises
    ------
    FossilError
        Where nothing is linked.
    """
    specimens = read_specimens(project, params.source, job)
    keys = specimens.keys
    for key in job.tracked(keys, len(keys), "Building surfaces"):
        instances = specimens.instances(key)
        sections = sections_of(instances)
        if any(s.body.area > (s.cavity_area if params.cavities else 0) for s in sections):
            surface = build_surface(sections, project.geometry, cavities=params.cavities)
            yield Reconstructed(key, tuple(instances), simplified(surface, params.max_faces))


def measured(project: Project, built: Reconstructed) -> SpecimenRow:
    """Measure a specimen that was built."""
    return measure(built.key.specimen, built.instances, project.geometry, built.surface)


def mesh_warnings(built: Reconstructed) -> list[str]:
    """Return warnings for the user about the mesh of a specimen."""
    name, surface = f"{built.key.class_name} {built.key.specimen}", built.surface
    warnings = []
    if surface.reduced_by > 1:
        warnings.append(
            f"{name} is very large: blocks of {surface.reduced_by} x {surface.reduced_by} pixels "
            "were averaged for its mesh."
        )
    if not surface.closed:
        warnings.append(f"The mesh of {name} is not closed.")
    off = surface.volume_um3 / surface.contour_volume_um3 - 1
    if abs(off) > _VOLUME_TOLERANCE:
        warnings.append(
            f"The volume of the mesh of {name} differs from its sections by {off:+.1%}."
        )
    return warnings
