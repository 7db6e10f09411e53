"""Specimens of a project, one after the other: their instances and their surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.reconstruct import BEST_KNOWN, MeshParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, DamagedError, Project
from napari_fossiledit.reef import (
    SpecimenRow,
    Surface,
    build_surface,
    measure,
    sections_of,
    simplified,
)
from napari_fossiledit.workflows.shared.sources import Choice, choose
from napari_fossiledit.workflows.shared.stale import stale_notes

LINKED = "linked"
"""Key in the ledger under which linking notes its sources and class."""

# Share by which mesh and outlines may differ in volume before the user is warned.
_VOLUME_TOLERANCE = 0.02
#: Specimens that a warning names.
_NAMED = 5


@dataclass(frozen=True, order=True)
class SpecimenKey:
    """Identity of a specimen: numbers begin anew in each class."""

    class_name: str
    specimen: int


@dataclass(frozen=True)
class Reconstructed:
    """One specimen with its surface, in the frame of the stack.

    Attributes
    ----------
    surface
        None where slices in its midst were never looked at: what lies between its sections is
        not known, and neither is its volume.
    gaps
        Those slices.
    """

    key: SpecimenKey
    instances: tuple[Instance, ...]
    surface: Surface | None
    gaps: tuple[int, ...] = ()


@dataclass
class Specimens:
    """The instances of each specimen of a source.

    Only ids are held, and masks are read a specimen at a time.

    Attributes
    ----------
    mask_cut
        Probability at which the masks of predictions end.
    ids
        Of the instances of each.
    warnings
        What the user should know.
    """

    project: Project
    choice: Choice
    mask_cut: float = MASK_CUT
    ids: dict[SpecimenKey, list[int]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[SpecimenKey]:
        """All specimens, by class and number."""
        return sorted(self.ids)

    def instances(self, key: SpecimenKey) -> list[Instance]:
        """Bodies and cavities of one specimen, slice by slice."""
        read = partial(self.project.ledger.instances, ids=self.ids[key], mask_cut=self.mask_cut)
        parts = map(read, self.choice.parts)
        found = (i for part in parts for i in part if i.class_name == key.class_name)
        return sorted(found, key=lambda i: i.slice)


def note_linked(project: Project, choice: Choice, class_name: str, mask_cut: float) -> None:
    """Note what was linked last: its specimens are meant where no source is named."""
    linked = {
        "source": choice.name,
        "class_name": class_name,
        "parts": choice.parts,
        "mask_cut": mask_cut,
    }
    project.ledger.set_meta(LINKED, linked)


def _linked(project: Project, text: str) -> tuple[Choice, set[str], list[str]]:
    """Return the source whose specimens are meant, the classes to look at, and warnings."""
    noted = project.ledger.get_meta(LINKED) or {}
    classes = set(project.settings.classes)
    if not text and not noted:
        return Choice.of({ANNOTATIONS: project.ledger.done(ANNOTATIONS)}), classes, []
    choice = choose(project, text or noted["source"])
    if noted.get("source") != choice.name:
        return choice, classes, []
    classes.add(noted["class_name"])
    then = Choice.of(noted.get("parts") or choice.parts)
    # A source by itself is what it was; of several, other slices may be taken from another one.
    if choice.name != BEST_KNOWN or then == choice:
        return choice, classes, []
    changed = set(then.slices) ^ set(choice.slices)
    changed |= {z for z in set(then.slices) - changed if then.source_of(z) != choice.source_of(z)}
    return (
        then,
        classes,
        [
            f"Slices {format_slices(sorted(changed))} were annotated or predicted since linking: "
            "link again to take them in."
        ],
    )


def read_specimens(
    project: Project, text: str, mask_cut: float = 0.0, job: Job = QUIET
) -> Specimens:
    """List the specimens of a source.

    Parameters
    ----------
    text
        Source as the user names it; empty: the one linked last, else the annotations.
    mask_cut
        Probability at which the masks of predictions end; 0: as when the source was linked.

    Raises
    ------
    FossilError
        Where no instance of the source belongs to a specimen.
    """
    choice, classes, warnings = _linked(project, text)
    noted = project.ledger.get_meta(LINKED) or {}
    if choice.name == BEST_KNOWN and noted.get("source") != BEST_KNOWN:
        # Numbers of specimens that were linked apart from each other mean nothing together.
        classes = set()
    if not mask_cut:
        same = noted.get("source") == choice.name
        mask_cut = noted.get("mask_cut", MASK_CUT) if same else MASK_CUT
    warnings += stale_notes(project, choice.parts)
    found = Specimens(project, choice, mask_cut, warnings=warnings)
    damaged = []
    for z in job.tracked(choice.slices, len(choice.slices), "Listing specimens"):
        try:
            items = project.instances(choice.source_of(z), z, mask_cut=mask_cut)
        except DamagedError as error:
            # A slice that cannot be read is one that nobody has looked at.
            damaged.append(z)
            warnings.append(str(error))
            continue
        for item in items:
            if item.id is None or item.specimen is None or item.class_name not in classes:
                continue
            found.ids.setdefault(SpecimenKey(item.class_name, item.specimen), []).append(item.id)
    found.choice = choice.without(damaged)
    if not found.keys:
        raise FossilError(
            f"{project.path} has no specimens in {choice.name}",
            expected=f"linked instances of {', '.join(sorted(project.settings.classes))}",
            advice=f"Link them first: fossiledit link {project.path} --source {choice.name}.",
        )
    return found


def count_linked(project: Project) -> int:
    """Return the number of specimens that the last linking made."""
    linked = [run for run in project.ledger.runs() if run.kind == "link" and run.summary]
    return int(linked[-1].summary.get("specimens", 0)) if linked else 0


def reconstructed(
    specimens: Specimens,
    params: MeshParams,
    job: Job = QUIET,
) -> Iterator[Reconstructed]:
    """Build the surface of one specimen after the other, where its volume is known.

    Specimens without a pixel are left out (an annotation may be empty). What should be known of
    the others is added to the warnings of `specimens`.
    """
    keys = specimens.keys
    geometry = specimens.project.geometry
    unknown = np.array(specimens.choice.gaps, dtype=np.int64)
    broken: dict[SpecimenKey, tuple[int, ...]] = {}
    for key in job.tracked(keys, len(keys), "Building surfaces"):
        instances = specimens.instances(key)
        sections = sections_of(instances)
        if not any(s.body.area > (s.cavity_area if params.cavities else 0) for s in sections):
            continue
        within = (unknown > sections[0].slice) & (unknown < sections[-1].slice)
        if gaps := tuple(unknown[within].tolist()):
            broken[key] = gaps
            yield Reconstructed(key, tuple(instances), None, gaps)
            continue
        surface = build_surface(sections, geometry, cavities=params.cavities)
        surface = simplified(surface, params.max_faces)
        specimens.warnings += _surface_warnings(key, surface)
        yield Reconstructed(key, tuple(instances), surface)
    if broken:
        specimens.warnings.append(_gap_warning(broken))


def measured(project: Project, built: Reconstructed) -> SpecimenRow:
    """Measure a specimen that was built."""
    return measure(built.key.specimen, built.instances, project.geometry, built.surface)


def _gap_warning(broken: dict[SpecimenKey, tuple[int, ...]]) -> str:
    named = ", ".join(f"{key.class_name} {key.specimen}" for key in list(broken)[:_NAMED])
    more = ", ..." if len(broken) > _NAMED else ""
    slices = sorted({z for gaps in broken.values() for z in gaps})
    return (
        f"{len(broken)} specimens ({named}{more}) have no volume and no mesh: {len(slices)} slices "
        f"in their midst ({format_slices(slices)}) are neither annotated nor predicted. Predict "
        "them and link again."
    )


def _surface_warnings(key: SpecimenKey, surface: Surface) -> Iterator[str]:
    """Yield warnings for the user about the mesh of a specimen."""
    name = f"{key.class_name} {key.specimen}"
    if surface.reduced_by > 1:
        yield (
            f"{name} is very large: blocks of {surface.reduced_by} x {surface.reduced_by} pixels "
            "were averaged for its mesh."
        )
    if not surface.closed:
        yield f"The mesh of {name} is not closed."
    off = surface.volume_um3 / surface.contour_volume_um3 - 1
    if abs(off) > _VOLUME_TOLERANCE:
        yield f"The volume of the mesh of {name} differs from its sections by {off:+.1%}."
