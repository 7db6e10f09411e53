"""Specimens of a project, one after the other: their instances and their surfaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box, format_slices, parse_slices
from napari_fossiledit.masks import Instance, Origin, Part
from napari_fossiledit.masks.interpolate import interpolate
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.reconstruct import BEST_KNOWN, Ends, MeshParams
from napari_fossiledit.placement import Alignment
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Action, DamagedError, Linked, Project
from napari_fossiledit.reef import (
    NEAR,
    Block,
    Section,
    SpecimenRow,
    Surface,
    build_surface,
    measure,
    sections_of,
    simplified,
    thinned,
    without_cracks,
)
from napari_fossiledit.workflows.shared.sources import Choice, choose, looked_at
from napari_fossiledit.workflows.shared.stale import stale_notes

LINKED = "linked"
"""Key in the ledger under which linking notes its sources and class."""

# Share by which mesh and outlines may differ in volume before the user is warned.
_VOLUME_TOLERANCE = 0.02
_MADE = Origin.INTERPOLATED
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
    sections
        Its sections, cracks closed where that was asked for.
    gaps
        Those slices.
    bridged
        Slices over which it was interpolated.
    """

    key: SpecimenKey
    instances: tuple[Instance, ...]
    surface: Surface | None
    sections: tuple[Section, ...]
    gaps: tuple[int, ...] = ()
    bridged: int = 0

    @property
    def notes(self) -> BuildNotes:
        """Return what the user should know of it."""
        warnings = () if self.surface is None else tuple(_surface_warnings(self.key, self.surface))
        opened = self.surface is not None and self.surface.open
        return BuildNotes(self.key, warnings, self.gaps, self.bridged, opened)


@dataclass(frozen=True, order=True)
class BuildNotes:
    """What should be known of a specimen that was built, without its surface."""

    key: SpecimenKey
    warnings: tuple[str, ...]
    gaps: tuple[int, ...]
    bridged: int
    opened: bool


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
    boxes
        Of each slice, the box of each body and the specimen that it belongs to.
    warnings
        What the user should know.
    """

    project: Project
    choice: Choice
    mask_cut: float = MASK_CUT
    ids: dict[SpecimenKey, list[int]] = field(default_factory=dict)
    boxes: dict[int, list[tuple[Box, SpecimenKey]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[SpecimenKey]:
        """All specimens, by class and number."""
        return sorted(self.ids)

    @cached_property
    def block(self) -> Block:
        """The block that the stack was ground from, and what of it was looked at."""
        orientation = self.project.settings.orientation
        return Block(self.project.shape, orientation, frozenset(self.choice.slices))

    def instances(self, key: SpecimenKey) -> list[Instance]:
        """Bodies and cavities of one specimen, slice by slice."""
        read = partial(self.project.ledger.instances, ids=self.ids[key], mask_cut=self.mask_cut)
        parts = map(read, self.choice.parts)
        found = (i for part in parts for i in part if i.class_name == key.class_name)
        return sorted(found, key=lambda i: i.slice)

    def near(self, key: SpecimenKey, sections: Iterable[Section]) -> list[SpecimenKey]:
        """Specimens that may touch one with these sections."""
        found: set[SpecimenKey] = set()
        for section in sections:
            y0, x0, y1, x1 = section.body.box
            for z in range(section.slice - 1, section.slice + 2):
                found |= {
                    other
                    for (a, b, c, d), other in self.boxes.get(z, ())
                    if y0 < c + NEAR and a < y1 + NEAR and x0 < d + NEAR and b < x1 + NEAR
                }
        return sorted(found - {key})


def note_linked(
    project: Project,
    choice: Choice,
    class_name: str,
    specimens: Mapping[int, int | None],
    found: Mapping[str, Iterable[int]],
    action: Action,
    mask_cut: float,
) -> None:
    """Note what was linked last: its specimens are meant where no source is named.

    Parameters
    ----------
    specimens
        What linking gave each instance.
    found
        Instances of each source that there were.
    action
        Of the linking.
    mask_cut
        Where the masks of predictions ended.
    """
    linked = {"source": choice.name, "parts": choice.parts, "mask_cut": mask_cut}
    noted = project.ledger.get_meta(LINKED) or {}
    # Classes that were linked before in just this way are meant as well.
    same = linked == {key: noted.get(key) for key in linked}
    classes = {class_name, *(_classes_of(noted) if same else ())}
    linked |= {"class_name": class_name, "classes": sorted(classes)}
    project.ledger.set_meta(LINKED, linked)
    linking, lies = _digest(specimens.items()), project.ledger.alignment().text()
    for source, part in choice.parts.items():
        one = Linked(linking, format_slices(part), _digest(found.get(source, ())), lies)
        project.ledger.set_linked(source, class_name, one, action)


def _classes_of(noted: Mapping[str, Any]) -> list[str]:
    """Return the classes of a linking; earlier versions noted one."""
    return [*noted.get("classes", [noted["class_name"]])]


def _digest(values: Iterable[object]) -> str:
    """Return what stands for values whose order means nothing."""
    text = json.dumps(sorted(map(repr, values)))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _linked(project: Project, text: str) -> tuple[Choice, set[str], list[str]]:
    """Return the source whose specimens are meant, the classes to look at, and warnings."""
    noted = project.ledger.get_meta(LINKED) or {}
    classes = set(project.settings.classes)
    if not text and not noted:
        return Choice.of({ANNOTATIONS: looked_at(project, ANNOTATIONS)}), classes, []
    choice = choose(project, text or noted["source"])
    if noted.get("source") != choice.name:
        return choice, classes, []
    classes.update(_classes_of(noted))
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
    numbers = _Numbers(project, choice)
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
            if item.id is None or item.class_name not in classes:
                continue
            numbers.look_at(choice.source_of(z), item)
            if item.specimen is not None:
                key = SpecimenKey(item.class_name, item.specimen)
                found.ids.setdefault(key, []).append(item.id)
                if item.part is Part.BODY and item.mask.area:
                    found.boxes.setdefault(z, []).append((item.mask.box, key))
    found.choice = choice.without(damaged)
    mixed = numbers.mixed()
    if mixed & {key.class_name for key in found.ids}:
        warnings.append(
            f"{', '.join(sorted(mixed))}: left out, because numbers of specimens in {choice.name} "
            "are of several linkings. Link again."
        )
    found.ids = {key: ids for key, ids in found.ids.items() if key.class_name not in mixed}
    warnings += numbers.notes()
    if not found.keys:
        raise FossilError(
            f"{project.path} has no specimens in {choice.name}",
            expected=f"linked instances of {', '.join(sorted(project.settings.classes))}",
            advice=f"Link them first, with {choice.name} as the source.",
        )
    return found


@dataclass
class _Part:
    """Instances of a class in one source, what linked them, and which it did not have to."""

    linked: Linked | None
    slices: Set[int]
    told: Set[int]
    ids: list[int] = field(default_factory=list)


class _Numbers:
    """Looks whether the specimens of a choice of sources are all of one linking.

    They are not where a linking was undone, which is a matter of the user's set alone, or where
    a source was linked by itself and later, in part, together with another one.
    """

    def __init__(self, project: Project, choice: Choice) -> None:
        self._project, self._choice = project, choice
        self._classes: dict[str, dict[str, _Part]] = {}
        self._mixed: set[str] = set()

    def look_at(self, source: str, item: Instance) -> None:
        """Take in an instance of the choice."""
        name, id_ = item.class_name, item.id or 0
        if name not in self._classes:
            self._classes[name] = {s: self._part(s, name) for s in self._choice.parts}
        part = self._classes[name][source]
        part.ids.append(id_)
        if item.specimen is not None and item.slice not in part.slices and id_ not in part.told:
            self._mixed.add(name)

    def mixed(self) -> set[str]:
        """Return the classes whose numbers are not all of one linking."""
        for name, parts in self._classes.items():
            noted = {p.linked and p.linked.linking for p in parts.values() if p.ids}
            if len(noted) > 1:
                self._mixed.add(name)
        return self._mixed

    def notes(self) -> Iterator[str]:
        """Yield what is otherwise than it was when the classes were linked."""
        changed, moved, now = list[str](), set[int](), self._project.ledger.alignment()
        for name, parts in self._classes.items():
            linked = {s: (p.linked, _digest(p.ids)) for s, p in parts.items() if p.linked}
            if name not in self._mixed and any(n.instances != ids for n, ids in linked.values()):
                changed.append(name)
            for source, (noted, _) in linked.items():
                if noted.alignment not in (None, now.text()):
                    then = Alignment.parse(noted.alignment)
                    moved |= {z for z in self._choice.parts[source] if then.at(z) != now.at(z)}
        if changed:
            yield (
                f"Instances of {', '.join(changed)} were drawn, removed or predicted since linking:"
                " link again to take that in."
            )
        if moved:
            slices = format_slices(sorted(moved))
            yield f"Slices {slices} were moved since linking: link again to take that in."

    def _part(self, source: str, name: str) -> _Part:
        ledger, count = self._project.ledger, self._project.shape[0]
        linked = ledger.linked(source, name)
        slices = parse_slices("all" if linked is None else linked.slices, count)
        told = ledger.known_specimens(source, name)
        return _Part(linked, frozenset(slices), frozenset(told))


def count_linked(project: Project) -> int:
    """Return the number of specimens that the last linking made."""
    linked = [run for run in project.ledger.runs() if run.kind == "link" and run.summary]
    return int(linked[-1].summary.get("specimens", 0)) if linked else 0


def reconstructed(
    specimens: Specimens,
    params: MeshParams,
    job: Job = QUIET,
    close_cracks_um: float = 0.0,
) -> Iterator[Reconstructed]:
    """Build the surface of one specimen after the other, where its volume is known.

    Specimens without a pixel are left out (an annotation may be empty). What should be known of
    the others is added to the warnings of `specimens`.
    """
    build = builder(specimens, params, close_cracks_um)
    notes: list[BuildNotes] = []
    for key in job.tracked(specimens.keys, len(specimens.keys), "Building surfaces"):
        built = build(key)
        if built is not None:
            notes.append(built.notes)
            yield built
    specimens.warnings += build_warnings(notes, params)


def builder(
    specimens: Specimens, params: MeshParams, close_cracks_um: float = 0.0
) -> Callable[[SpecimenKey], Reconstructed | None]:
    """Return what builds a specimen, or None where it has no pixel."""
    geometry = specimens.project.geometry
    unknown = np.array(specimens.choice.gaps, dtype=np.int64)

    # Its neighbours are often read for more than one specimen.
    @lru_cache(maxsize=64)
    def read(key: SpecimenKey) -> tuple[tuple[Instance, ...], list[Section], int]:
        instances = specimens.instances(key)
        added = _bridges(instances, params.bridge) if params.bridge else []
        instances = sorted([*instances, *added], key=lambda i: i.slice)
        sections = sections_of(instances)
        if close_cracks_um:
            sections = without_cracks(sections, close_cracks_um / geometry.pixel_size_um)
        return tuple(instances), sections, len({i.slice for i in added})

    def build(key: SpecimenKey) -> Reconstructed | None:
        instances, sections, bridged = read(key)
        if not any(s.body.area > (s.cavity_area if params.cavities else 0) for s in sections):
            return None
        within = (unknown > sections[0].slice) & (unknown < sections[-1].slice)
        there = [s.slice for s in sections]
        if gaps := tuple(z for z in unknown[within].tolist() if z not in there):
            return Reconstructed(key, instances, None, tuple(sections), gaps, bridged)
        surface = build_surface(
            sections,
            geometry,
            cavities=params.cavities,
            near=[read(other)[1] for other in specimens.near(key, sections)],
            open_at=specimens.project.shape if params.ends is Ends.OPEN else None,
        )
        surface = simplified(thinned(surface, params.max_error), params.max_faces)
        return Reconstructed(key, instances, surface, tuple(sections), (), bridged)

    return build


def build_warnings(notes: Iterable[BuildNotes], params: MeshParams) -> list[str]:
    """Return what the user should know of all specimens that were built."""
    notes = sorted(notes)
    warnings = [warning for one in notes for warning in one.warnings]
    if broken := {one.key: one.gaps for one in notes if one.gaps}:
        warnings.append(_gap_warning(broken))
    if bridges := {one.key: one.bridged for one in notes if one.bridged}:
        warnings.append(
            f"{len(bridges)} specimens ({_named(bridges)}) were interpolated over"
            f" {sum(bridges.values())} slices in which they are missing: these sections count in"
            " their figures like drawn ones."
        )
    if opened := sum(one.opened for one in notes):
        warnings.append(
            f"{opened} specimens are cut by a side of the block and left open there: the volume of"
            " their meshes is that of their sections."
            + (" They keep all faces (max_error)." if params.max_error else "")
        )
    return warnings


def _bridges(instances: Sequence[Instance], most: int) -> list[Instance]:
    """Interpolate a specimen over gaps of at most `most` slices."""
    sections = [s for s in sections_of(instances) if s.body.area]
    slices = [s.slice for s in sections]
    missing = [z for a, b in pairwise(slices) if b - a - 1 <= most for z in range(a + 1, b)]
    if not missing:
        return []
    bodies = interpolate({s.slice: s.body for s in sections}, missing)
    hollow = {s.slice: s.cavity for s in sections if s.cavity is not None and s.cavity.area}
    # Where both neighbours have a cavity.
    inner = [
        z
        for a, b in pairwise(slices)
        if a in hollow and b in hollow
        for z in range(a + 1, b)
        if z in bodies
    ]
    cavities = interpolate(hollow, inner) if inner else {}
    first = instances[0]
    return [
        Instance(z, first.class_name, mask, part=part, specimen=first.specimen, origin=_MADE)
        for part, masks in ((Part.BODY, bodies), (Part.CAVITY, cavities))
        for z, mask in masks.items()
        if mask.area
    ]


def measured(specimens: Specimens, built: Reconstructed) -> SpecimenRow:
    """Measure a specimen that was built."""
    block = specimens.block
    if not any(i.origin is Origin.MODEL for i in built.instances):
        # What the model errs by says nothing of masks that a person drew.
        block = replace(block, segmentation=None)
    geometry = specimens.project.geometry
    shown = built.instances, geometry, built.surface, block, built.sections
    return measure(built.key.specimen, *shown)


def _gap_warning(broken: dict[SpecimenKey, tuple[int, ...]]) -> str:
    slices = sorted({z for gaps in broken.values() for z in gaps})
    return (
        f"{len(broken)} specimens ({_named(broken)}) have no volume and no mesh: {len(slices)} "
        f"slices in their midst ({format_slices(slices)}) are neither annotated nor predicted. "
        "Predict them and link again, or interpolate over them (bridge)."
    )


def _named(keys: Collection[SpecimenKey]) -> str:
    """Name the first of some specimens."""
    named = ", ".join(f"{key.class_name} {key.specimen}" for key in list(keys)[:_NAMED])
    return named + (", ..." if len(keys) > _NAMED else "")


def _surface_warnings(key: SpecimenKey, surface: Surface) -> Iterator[str]:
    """Yield warnings for the user about the mesh of a specimen."""
    name = f"{key.class_name} {key.specimen}"
    if not (surface.open or surface.closed):
        yield f"The mesh of {name} is not closed."
    off = surface.volume_um3 / surface.contour_volume_um3 - 1
    if abs(off) > _VOLUME_TOLERANCE:
        yield f"The volume of the mesh of {name} differs from its sections by {off:+.1%}."
