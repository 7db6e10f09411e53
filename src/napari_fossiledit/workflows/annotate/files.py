"""Traced slices: bring them in and out, paint them to be corrected, take corrections over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco import CocoFile
from napari_fossiledit.exchange.tracings.coco_writer import write_coco
from napari_fossiledit.exchange.tracings.label_images import LabelImages
from napari_fossiledit.exchange.tracings.outlines import OutlineFile
from napari_fossiledit.exchange.tracings.tracing_file import (
    Problem,
    Target,
    TracedSlice,
    TracingFile,
    nested,
)
from napari_fossiledit.geometry import format_slices, parse_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.annotations import ExportParams, ImportParams, OutlinePart
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.annotate.corrections import fill_labels, trace_slice
from napari_fossiledit.workflows.shared.sources import find_source, without_orphans

__all__ = [
    "ExportResult",
    "ImportResult",
    "export_annotations",
    "fill_labels",
    "import_annotations",
    "trace_slice",
]

_SHOWN_PROBLEMS = 50


@dataclass(frozen=True)
class ImportResult:
    """What an import brought.

    Attributes
    ----------
    file
        What was read.
    slices
        Slices that got instances.
    instances
        How many.
    classes
        How many of each class.
    identified
        Whether the file says which specimen each body belongs to.
    problems
        What had to be left out, and why.
    warnings
        What is odd.
    """

    file: Path
    slices: tuple[int, ...]
    instances: int
    classes: dict[str, int]
    identified: bool
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values; of many problems only the first are told."""
        return {
            "file": str(self.file),
            "slices": format_slices(self.slices),
            "instances": self.instances,
            "classes": self.classes,
            "identified": self.identified,
            "left_out": len(self.problems),
            "problems": list(self.problems[:_SHOWN_PROBLEMS]),
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class ExportResult:
    """What an export wrote: the file, its slices, and how many instances."""

    file: Path
    source: str
    slices: tuple[int, ...]
    instances: int

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "file": str(self.file),
            "source": self.source,
            "slices": format_slices(self.slices),
            "instances": self.instances,
        }


def import_annotations(
    project_path: Path,
    params: ImportParams,
    *,
    job: Job = QUIET,
) -> ImportResult:
    """Bring traced slices into a project; slices of the file replace those that were there.

    Where a class is named only that class is replaced, so that classes can come from a file each.
    Outlines of cavities are added to the bodies that are there.

    Raises
    ------
    FossilError
        Where the file is damaged or nothing of it can be used. Single broken annotations are
        told in the result instead.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        file = _opened(project, params)
        with project.ledger.recorded("import", params.model_dump(mode="json")) as summary:
            slices = job.tracked(file.traced_slices(), file.count, "Importing")
            stored = _Stored(project, params)
            for item in slices:
                stored.add(item, file)
            result = stored.result(file)
            summary.update(result.summary())
    return result


def _opened(project: Project, params: ImportParams) -> TracingFile:
    path, suffix = params.file, params.file.suffix.lower()
    if not path.exists():
        raise FossilError(f"There is no file {path}", advice="Check the name.")
    chosen = tuple(parse_slices(params.slices, project.shape[0])) if params.slices else None
    target = Target(project.names, project.slice_shape, chosen)
    part = None if params.part is OutlinePart.AUTO else Part(params.part.value)
    name = params.class_name or project.settings.classes[0]
    if suffix == ".json":
        return CocoFile(path, target, params.class_name)
    if suffix == ".mat":
        return OutlineFile(path, target=target, class_name=name, part=part)
    if path.is_dir() or suffix in (".png", ".tif", ".tiff"):
        return LabelImages(path, target, name, part or Part.BODY)
    raise FossilError(
        f"{path} cannot be imported",
        expected="COCO (.json), label images (a folder, .tif or .png) or outlines (.mat)",
        found=suffix or "no extension",
    )


class _Stored:
    """Puts slices into the ledger and keeps count."""

    def __init__(self, project: Project, params: ImportParams) -> None:
        self._project, self._params = project, params
        self._before = project.ledger.done(ANNOTATIONS)
        self._known = {
            name: project.ledger.identified(ANNOTATIONS, name)
            for name in project.ledger.classes(ANNOTATIONS)
        }
        self._classes: Counter[str] = Counter()
        self._ids: list[int] = []
        self._slices: list[int] = []
        self._only_cavities = True

    def add(self, item: TracedSlice, file: TracingFile) -> None:
        """Store one slice."""
        ledger, told = self._project.ledger, [self._told(i) for i in item.instances]
        cavities = bool(told) and all(i.part is Part.CAVITY for i in told)
        if cavities:
            self._store_cavities(item.z, told, file)
        else:
            name = self._params.class_name or None
            self._ids += ledger.store(ANNOTATIONS, item.z, told, class_name=name)
            self._only_cavities = False
            if item.traced:
                ledger.set_traced(item.z, item.area)
        self._classes.update(i.class_name for i in told)
        self._slices.append(item.z)

    def _store_cavities(self, z: int, told: list[Instance], file: TracingFile) -> None:
        ledger = self._project.ledger
        bodies = ledger.instances(ANNOTATIONS, slices=[z], part=Part.BODY)
        found = nested(told, bodies)
        name = self._params.class_name or None
        self._ids += ledger.store(ANNOTATIONS, z, found, part=Part.CAVITY, class_name=name)
        for item in found:
            if item.parent is None:
                where = f"cavity of specimen {item.specimen} in slice {z}"
                file.problems.append(Problem(where, "it lies in no body; kept without one"))

    def _told(self, item: Instance) -> Instance:
        """Add what the user told about all instances."""
        return replace(
            item,
            texture=item.texture or self._params.texture,
            unsure=item.unsure or self._params.unsure,
        )

    def result(self, file: TracingFile) -> ImportResult:
        """Finish, or raise where nothing could be used."""
        if not self._ids and file.problems:
            raise FossilError(
                f"Nothing in {file.path} can be imported",
                found=f"{len(file.problems)} problems, the first: {file.problems[0]}",
            )
        if not self._only_cavities:
            self._settle_identities(file)
        return ImportResult(
            file=file.path,
            slices=tuple(self._slices),
            instances=len(self._ids),
            classes=dict(sorted(self._classes.items())),
            identified=self._project.ledger.identified(ANNOTATIONS),
            problems=tuple(str(p) for p in file.problems),
            warnings=tuple(self._warnings()),
        )

    def _settle_identities(self, file: TracingFile) -> None:
        """Specimens are known where this file and all that was there before tell them."""
        ledger = self._project.ledger
        if isinstance(file, LabelImages) and not file.identified:
            ledger.set_specimens(ANNOTATIONS, dict.fromkeys(self._ids))
        others = self._before - set(self._slices)
        if self._params.class_name:
            self._settle_class(file.identified, bool(others))
            return
        known = file.identified and (not others or ledger.identified(ANNOTATIONS))
        ledger.set_identified(ANNOTATIONS, known)

    def _settle_class(self, identified: bool, others: bool) -> None:
        """Say what is known of the class that was imported; of other classes it stays as it is."""
        ledger, name = self._project.ledger, self._params.class_name
        before = self._known.get(name, True) or not others
        known = self._known | {name: identified and before}
        ledger.set_identified(ANNOTATIONS, any(known.values()))
        for other in (c for c in known if not known[c]):
            ledger.set_guessed(ANNOTATIONS, other)

    def _warnings(self) -> Iterator[str]:
        wanted = self._project.settings.classes
        if self._classes and not self._classes.keys() & set(wanted):
            yield (
                f"None of the imported classes ({', '.join(sorted(self._classes))}) is a class of "
                f"the project ({', '.join(wanted)}); --class gives them another name."
            )
        if not self._ids:
            yield "The file holds no instance for the chosen slices."


def export_annotations(
    project_path: Path,
    params: ExportParams,
    *,
    job: Job = QUIET,
) -> ExportResult:
    """Write instances as COCO with compressed run lengths, one slice in memory at a time.

    Raises
    ------
    FossilError
        Where there is nothing to write, or the file cannot be written.
    """
    with Project.open(project_path, read_only=True) as project:
        source = find_source(project, params.source)
        chosen = parse_slices(params.slices, project.shape[0])
        slices = sorted(_known(project, source) & set(chosen))
        if not slices:
            raise FossilError(
                f"{source} has nothing in the chosen slices of {project.path}",
                expected=format_slices(sorted(_known(project, source))),
                found=params.slices,
            )
        items = (_exported(project, source, z, params) for z in slices)
        written = write_coco(
            params.file,
            job.tracked(items, len(slices), "Exporting"),
            project.names,
            project.slice_shape,
            _classes(project, source),
        )
    return ExportResult(params.file, source, tuple(slices), written)


def _known(project: Project, source: str) -> set[int]:
    """Slices of which a source says anything."""
    traced = project.ledger.traced() if source == ANNOTATIONS else {}
    return project.ledger.done(source) | traced.keys()


def _classes(project: Project, source: str) -> list[str]:
    return list(dict.fromkeys([*project.settings.classes, *project.ledger.classes(source)]))


def _exported(project: Project, source: str, z: int, params: ExportParams) -> TracedSlice:
    found = project.instances(
        source, z, class_name=params.class_name or None, min_score=params.score
    )
    traced = project.ledger.traced() if source == ANNOTATIONS else {}
    return TracedSlice(z, without_orphans(found), z in traced, traced.get(z))
