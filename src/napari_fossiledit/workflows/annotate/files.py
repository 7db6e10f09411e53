"""Traced slices: import them from files and export them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from operator import and_
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.exchange.label_volume import SUFFIXES as VOLUMES
from napari_fossiledit.exchange.label_volume import (
    Labels,
    painted,
    placing,
    suffix_of,
    write_label_volume,
)
from napari_fossiledit.exchange.tracings.coco import CocoFile, CocoReading
from napari_fossiledit.exchange.tracings.coco_writer import write_coco
from napari_fossiledit.exchange.tracings.label_images import SUFFIXES, LabelImages
from napari_fossiledit.exchange.tracings.label_studio import write_label_studio
from napari_fossiledit.exchange.tracings.outlines import OutlineFile
from napari_fossiledit.exchange.tracings.tracing_file import (
    Problem,
    Target,
    TracedSlice,
    TracingFile,
    listed,
    nested,
    reasons,
)
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Mask, Part, beside_reviewed
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.params.annotations import (
    Crowd,
    ExportParams,
    Holes,
    ImportParams,
    Layout,
    OutlinePart,
    SplitParts,
)
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, DamagedError, Ledger, Project
from napari_fossiledit.project.ledger import as_taken
from napari_fossiledit.stacks.ome_zarr import is_zarr
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.annotate.round_trip import RoundTrip
from napari_fossiledit.workflows.shared.sources import choose, known_class, without_orphans
from napari_fossiledit.workflows.shared.stale import look_at_photographs, stale_notes

_SHOWN_CAVITIES = 5
# Share of the specimens of two slices that lie on each other where the numbers mean the same.
_LEAST_AGREEMENT = 0.5


@dataclass(frozen=True)
class ImportResult:
    """Account of an import.

    Attributes
    ----------
    file
        What was read.
    slices
        Slices that got instances.
    instances, cavities, unsure
        How many bodies came in, how many cavities, and how many of both are unsure.
    replaced
        How many bodies and cavities they took the place of.
    duplicates
        How many were left out because they were there before with the same pixels.
    classes
        How many bodies of each class.
    identified
        True where the file says which specimen each body belongs to.
    problems
        What else was left out, and why.
    assumptions
        What was taken for given though the file does not say it.
    warnings
        What is odd.
    """

    file: Path
    slices: tuple[int, ...]
    instances: int
    cavities: int
    replaced: int
    unsure: int
    duplicates: int
    classes: dict[str, int]
    identified: bool
    problems: tuple[Problem, ...]
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences for the user beside the figures."""
        return (*self.warnings, *reasons(self.problems), *self.assumptions)

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values, with the first of many problems."""
        return {
            "file": str(self.file),
            "slices": format_slices(self.slices),
            "instances": self.instances,
            "cavities": self.cavities,
            "replaced": self.replaced,
            "unsure": self.unsure,
            "duplicates": self.duplicates,
            "classes": self.classes,
            "identified": self.identified,
            "left_out": len(self.problems),
            "problems": reasons(self.problems),
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class ExportResult(Summary):
    """The file that an export wrote, its slices, and how many instances are in it.

    Where several sources were asked, `sources` are the slices of each; masks of predictions end at
    the probability `mask_cut`; `notes` tell what the file cannot hold. `identical` is how many
    instances an import reads as they were written, with all that is known of them; None where that
    was not looked at.
    """

    file: Path
    source: str
    slices: tuple[int, ...]
    instances: int
    sources: dict[str, str]
    mask_cut: float
    notes: tuple[str, ...] = ()
    identical: int | None = None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


def import_annotations(
    project_path: Path,
    params: ImportParams,
    *,
    job: Job = QUIET,
) -> ImportResult:
    """Import traced slices into a project; slices of the file replace those that were there.

    Where a class is named only that class is replaced, so that classes can come from a file each.
    Outlines of cavities are added to the bodies that are there.

    Raises
    ------
    FossilError
        Where the file is damaged or nothing of it can be used. Single broken annotations are
        listed in the result instead.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        file = _opened(project, params)
        look_at_photographs(project)
        with project.ledger.recorded("import", params.model_dump(mode="json")) as summary:
            slices = job.tracked(file.traced_slices(), file.count, "Importing")
            frame, notes = _frame(project, params.file)
            with frame:
                importer = _Importer(project, params, file)
                for item in slices:
                    importer.add(item)
            result = importer.result()
            result = replace(result, assumptions=(*result.assumptions, *notes))
            summary.update(result.summary())
    return result


def _frame(project: Project, file: Path) -> tuple[AbstractContextManager[None], tuple[str, ...]]:
    """Return in which frame the masks of a file are, where slices were laid over each other."""
    if not project.ledger.alignment().entries:
        return nullcontext(), ()
    if is_zarr(file) or (suffix_of(file) in VOLUMES and not file.is_dir()):
        return nullcontext(), ("Labels of the file lie over each other as the slices do now.",)
    return as_taken(), ("Masks of the file lie in the photographs as those were taken.",)


def _opened(project: Project, params: ImportParams) -> TracingFile:
    path, suffix = params.file, params.file.suffix.lower()
    if not path.exists():
        raise FossilError(f"There is no file {path}", advice="Check the name.")
    count = project.shape[0]
    chosen = tuple(parse_slices(params.slices, count, as_given=True)) if params.slices else None
    target = Target(project.names, project.slice_shape, chosen, params.scale)
    part = None if params.part is OutlinePart.AUTO else Part(params.part.value)
    name = params.new_class or project.settings.classes[0]
    if suffix == ".json":
        reading = CocoReading(
            params.new_class,
            params.old_class,
            crowds_unsure=params.crowd is Crowd.UNSURE,
            fill_holes=params.holes is Holes.FILL,
        )
        return CocoFile(path, target, reading)
    if params.old_class:
        raise FossilError(
            f"{path} has no classes that could be renamed",
            expected="--class NEW=OLD for COCO files only",
            found=params.class_name,
            advice=f"Give the class alone: --class {params.new_class}",
        )
    if suffix == ".mat":
        target.require_rising("outlines say which slice they are of")
        return OutlineFile(path, target=target, class_name=name, part=part)
    if path.is_dir() or suffix in SUFFIXES or is_zarr(path):
        splits = {SplitParts.YES: True, SplitParts.NO: False}
        split = splits.get(params.split_parts)
        return LabelImages(path, target, name, part or Part.BODY, split=split)
    raise FossilError(
        f"{path} cannot be imported",
        expected="COCO (.json), label images (a folder, .tif, .png or OME-Zarr) or outlines (.mat)",
        found=suffix or "no extension",
    )


class _Importer:
    """Stores the slices of a file in the ledger and keeps count."""

    def __init__(self, project: Project, params: ImportParams, file: TracingFile) -> None:
        self._project, self._params, self._file = project, params, file
        self._action = project.ledger.begin("import")
        self._before = project.ledger.done(ANNOTATIONS)
        self._identified = {
            name: project.ledger.identified(ANNOTATIONS, name)
            for name in project.ledger.classes(ANNOTATIONS)
        }
        self._traced_before = project.ledger.traced()
        self._there = _counted(project.ledger)
        self._classes: Counter[str] = Counter()
        self._ids: list[int] = []
        self._cavities = self._unsure = self._left_out = 0
        self._slices: list[int] = []
        self._lone: list[str] = []
        self._untraced: list[int] = []
        self._kept_untraced: list[int] = []
        self._only_cavities = True

    def add(self, item: TracedSlice) -> None:
        """Store one slice and its mark in one transaction."""
        with self._project.ledger.transaction():
            self._add(item)

    def _add(self, item: TracedSlice) -> None:
        ledger, name = self._project.ledger, self._params.new_class or None
        instances = [
            replace(
                i,
                texture=i.texture or self._params.texture,
                unsure=i.unsure or self._params.unsure,
            )
            for i in item.instances
        ]
        reviewed_too = self._params.replace_reviewed
        if not reviewed_too:
            free = beside_reviewed(instances, ledger.instances(ANNOTATIONS, slices=[item.z]))
            self._left_out += len(instances) - len(free)
            instances = free
        if instances and all(i.part is Part.CAVITY for i in instances):
            bodies = ledger.instances(ANNOTATIONS, slices=[item.z], part=Part.BODY)
            cavities = nested(instances, bodies)
            # Those of other classes are none of the file's.
            for own in dict.fromkeys(c.class_name for c in cavities):
                self._ids += ledger.store(
                    ANNOTATIONS,
                    item.z,
                    [c for c in cavities if c.class_name == own],
                    part=Part.CAVITY,
                    class_name=own,
                    reviewed_too=reviewed_too,
                    action=self._action,
                )
            self._lone += [
                f"specimen {c.specimen} in slice {c.slice}" for c in cavities if c.parent is None
            ]
        else:
            traced, area = self._traced(item)
            if not traced and item.z in self._traced_before:
                ledger.unset_traced(item.z, self._action)
                self._untraced.append(item.z)
            self._ids += ledger.store(
                ANNOTATIONS,
                item.z,
                instances,
                class_name=name,
                reviewed_too=reviewed_too,
                action=self._action,
            )
            self._only_cavities = False
            if traced:
                ledger.set_traced(item.z, area, self._action)
        self._classes.update(i.class_name for i in instances if i.part is Part.BODY)
        self._cavities += sum(i.part is Part.CAVITY for i in instances)
        self._unsure += sum(i.unsure for i in instances)
        self._slices.append(item.z)

    def _traced(self, item: TracedSlice) -> tuple[bool, Mask | None]:
        """Return whether a slice is traced completely with what stays there, and where."""
        name, before = self._params.new_class, self._traced_before
        if not item.traced or not name:
            return item.traced, item.area
        stored = self._project.ledger.instances(ANNOTATIONS, slices=[item.z])
        if all(i.class_name == name for i in stored):
            return True, item.area
        # Instances of other classes stay, and the slice is as complete as theirs are.
        if item.z not in before:
            self._kept_untraced.append(item.z)
            return False, None
        areas = [a for a in (item.area, before[item.z]) if a is not None]
        return True, reduce(and_, areas) if areas else None

    def result(self) -> ImportResult:
        """Return the result, or raise where nothing could be used."""
        file = self._file
        if not self._ids and file.problems:
            raise FossilError(
                f"Nothing in {file.path} can be imported",
                found=f"{len(file.problems)} problems, the first: {file.problems[0]}",
            )
        if not self._only_cavities:
            self._settle_identities()
        now = _counted(self._project.ledger)
        return ImportResult(
            file=file.path,
            slices=tuple(self._slices),
            instances=self._classes.total(),
            cavities=self._cavities,
            replaced=len(self._ids) + sum(self._there[z] - now[z] for z in self._slices),
            unsure=self._unsure,
            duplicates=file.duplicates,
            classes=dict(sorted(self._classes.items())),
            identified=self._project.ledger.identified(ANNOTATIONS),
            problems=tuple(file.problems),
            assumptions=tuple(file.assumptions),
            warnings=tuple(self._warnings()),
        )

    def _settle_identities(self) -> None:
        """Write whether this file and all that was there before say which specimen is which."""
        ledger, file, name = self._project.ledger, self._file, self._params.new_class
        if isinstance(file, LabelImages) and not file.identified:
            ledger.set_specimens(ANNOTATIONS, dict.fromkeys(self._ids), action=self._action)
        others = bool(self._before - set(self._slices))
        if not name:
            identified = file.identified and (not others or ledger.identified(ANNOTATIONS))
            ledger.set_identified(ANNOTATIONS, identified, self._action)
            return
        # Only one class was imported: of the others it stays as it is.
        before = self._identified.get(name, True) or not others
        identities = self._identified | {name: file.identified and before}
        ledger.set_identified(ANNOTATIONS, any(identities.values()), self._action)
        for other in (c for c in identities if not identities[c]):
            ledger.set_guessed(ANNOTATIONS, other, self._action)

    def _is_seam(self, z: int) -> bool:
        """Return whether specimens end between an imported slice and those there before.

        Numbers of two files mean the same where most specimens that both slices have overlap.
        """
        ledger = self._project.ledger
        if not ledger.identified(ANNOTATIONS):
            return False
        there = sorted({*self._before, *self._slices})
        place = there.index(z)
        beside = {*there[max(place - 1, 0) : place + 2]} - {*self._slices}
        return any(self._apart(z, other) for other in beside)

    def _apart(self, z: int, other: int) -> bool:
        name = self._params.new_class or None
        try:
            bodies = self._project.ledger.instances(
                ANNOTATIONS, slices=[z, other], part=Part.BODY, class_name=name
            )
        except DamagedError:
            return False
        told = [i for i in bodies if i.specimen is not None]
        here, there = (
            {(i.class_name, i.specimen): i.mask for i in told if i.slice == y} for y in (z, other)
        )
        shared = here.keys() & there.keys()
        touching = sum(bool(intersections([here[k]], [there[k]])[0, 0]) for k in shared)
        return touching < _LEAST_AGREEMENT * len(shared)

    def _warnings(self) -> Iterator[str]:
        classes = self._project.settings.classes
        if self._classes and not self._classes.keys() & set(classes):
            names = sorted(self._classes)
            renamed = shlex.quote(f"{classes[0]}={names[0]}")
            given = isinstance(self._file, CocoFile) and not self._params.class_name
            yield (
                f"None of the imported classes ({', '.join(names)}) is a class of the project "
                f"({', '.join(classes)}); --class {renamed if given else classes[0]} imports "
                f"{names[0]} as one."
            )
        if self._lone:
            yield (
                "Cavities that lie in no body, kept without one: "
                f"{listed(self._lone, _SHOWN_CAVITIES)}."
            )
        if self._left_out:
            yield (
                f"{self._left_out} masks were left out, as masks that a person has found right lie "
                "there; importing again with reviewed masks replaced takes them."
            )
        if self._untraced:
            yield (
                "Completely traced before and not any more: slices "
                f"{format_slices(self._untraced)}."
            )
        if self._kept_untraced:
            yield (
                "Not completely traced, because other classes there are not: slices "
                f"{format_slices(self._kept_untraced)}."
            )
        if self._file.identified and (seams := [z for z in self._slices if self._is_seam(z)]):
            yield (
                "Specimens with the same numbers as in slices that were there before do not lie on"
                f" each other in slices {format_slices(seams)}. Where the file counts its own"
                " specimens, link with --relink."
            )
        if not self._ids:
            yield "The file holds no instance for the chosen slices."


def _counted(ledger: Ledger) -> Counter[int]:
    """Count bodies and cavities of the user's set in each slice."""
    return Counter(ledger.counts(ANNOTATIONS)) + Counter(ledger.counts(ANNOTATIONS, Part.CAVITY))


def export_annotations(
    project_path: Path,
    params: ExportParams,
    *,
    job: Job = QUIET,
) -> ExportResult:
    """Write instances to a file, one slice in memory at a time, and read them back.

    COCO and Label Studio (``.json``) hold all: holes, cavities, overlaps, what was traced. A label
    volume (``.tif``, ``.zarr``) holds one value a voxel. What does not come back is told.

    Raises
    ------
    FossilError
        Where there is nothing to write, the file cannot be written, or has another suffix.
    """
    suffix = suffix_of(params.file) or params.file.suffix.lower()
    if suffix not in (".json", *VOLUMES):
        raise FossilError(
            f"{params.file} cannot be written",
            expected=f"a COCO file (.json) or a label volume ({', '.join(VOLUMES)})",
            found=suffix or "no extension",
            advice="Give the file another name.",
        )
    with Project.open(project_path, read_only=True) as project:
        project.require_not_a_part(params.file)
        known_class(project, params.class_name)
        frame, notes = _frame(project, params.file)
        with frame:
            return _exported(project, params, suffix, notes, job)


def _exported(
    project: Project, params: ExportParams, suffix: str, notes: tuple[str, ...], job: Job
) -> ExportResult:
    ledger, choice = project.ledger, choose(project, params.source)
    own = choice.parts.get(ANNOTATIONS, ())
    traced = {z: area for z, area in ledger.traced().items() if z in own}
    there = choice.slices
    slices = sorted(set(there) & set(parse_slices(params.slices, project.shape[0])))
    if not slices:
        raise FossilError(
            f"{choice.name} has nothing in the chosen slices of {project.path}",
            expected=format_slices(there),
            found=params.slices,
        )

    def read(z: int) -> TracedSlice:
        instances = project.instances(
            choice.source_of(z),
            z,
            class_name=params.class_name or None,
            min_score=params.score,
            mask_cut=params.mask_cut,
        )
        return TracedSlice(z, without_orphans(instances), z in traced, traced.get(z))

    chosen = {source: {*part}.intersection(slices) for source, part in choice.parts.items()}
    notes = (*stale_notes(project, chosen), *notes)
    result = ExportResult(
        params.file, choice.name, tuple(slices), 0, choice.record(), params.mask_cut, notes
    )
    if suffix in VOLUMES:
        result = _export_volume(project, result, read, job)
    else:
        classes = (name for source in choice.parts for name in ledger.classes(source))
        known = list(dict.fromkeys([*project.settings.classes, *classes]))
        items = job.tracked(map(read, slices), len(slices), "Exporting")
        stack = project.names, project.slice_shape
        if params.layout is Layout.LABEL_STUDIO:
            written = write_label_studio(params.file, items, *stack)
        else:
            polygons = params.layout is Layout.POLYGONS
            written = write_coco(params.file, items, *stack, known, polygons=polygons)
        result = replace(result, instances=written)
    # What is read from other programs are pictures, not their volumes.
    if not params.check or suffix in (".nrrd", ".nii", ".nii.gz"):
        return result
    try:
        file = _opened(project, ImportParams(file=params.file, class_name=params.class_name))
        items = job.tracked(map(read, slices), len(slices), "Reading back")
        trip = RoundTrip.of(items, file)
    except CancelledError:
        raise
    except FossilError as error:
        # It is written: what cannot be read here may still be what another program wants.
        return replace(result, identical=0, notes=(*result.notes, f"Not read back: {error}"))
    told = (*trip.sentences(), *reasons(file.problems))
    return replace(result, identical=trip.identical, notes=(*result.notes, *told))


def _export_volume(
    project: Project, result: ExportResult, read: Callable[[int], TracedSlice], job: Job
) -> ExportResult:
    """Write all slices of the stack as labels; those that were not chosen are empty."""
    bodies = [
        (i.class_name, i.specimen or 0)
        for z in job.tracked(result.slices, len(result.slices), "Looking at specimens")
        for i in read(z).instances
        if i.part is Part.BODY
    ]
    specimens = all(0 < who < 2**32 for _, who in bodies) and len({name for name, _ in bodies}) == 1
    largest = max((who for _, who in bodies), default=0) if specimens else len(bodies)
    numbers, hidden = count(1), 0

    def labels() -> Iterator[Labels]:
        nonlocal hidden
        for z in job.tracked(range(project.shape[0]), project.shape[0], "Exporting"):
            found = read(z).instances if z in result.slices else []
            found = [i for i in found if i.part is Part.BODY]
            values = [i.specimen or 0 if specimens else next(numbers) for i in found]
            image, covered = painted(found, values, project.slice_shape, largest)
            hidden += covered
            yield image

    write_label_volume(result.file, labels(), project.shape, project.geometry)
    notes = ["Values are specimens." if specimens else "Values count the instances: not all of them"
             " belong to a specimen, or there are several classes."]  # fmt: skip
    notes += placing(result.file, project.geometry)
    if hidden:
        notes.append(f"{hidden} pixels lie under another instance and are its alone in the file.")
    notes.append("Slices without instances and slices that nobody looked at are both empty.")
    return replace(result, instances=len(bodies), notes=(*result.notes, *notes))
