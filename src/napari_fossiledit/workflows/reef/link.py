"""Link the instances of neighbouring slices to specimens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import LABELS, Project
from napari_fossiledit.reef.link import (
    LinkEvent,
    LinkResult,
    divided_identities,
    link,
    merged_identities,
)
from napari_fossiledit.workflows.shared.sources import with_class, without_orphans
from napari_fossiledit.workflows.shared.specimens import LINKED, find_linkable, slices_of

Identities = dict[int, int | None]


@dataclass(frozen=True)
class LinkOutcome:
    """What linking did.

    Attributes
    ----------
    source, class_name
        What was linked.
    specimens, instances, unlinked
        Number of specimens, of instances in them, and of instances in none.
    kept
        Whether the identities that a file brought were kept, and nothing was linked.
    events
        Splits and merges.
    merged, divided
        Known identities that are one specimen now, and specimens that one identity became.
    """

    source: str
    class_name: str
    specimens: int
    instances: int
    unlinked: int
    kept: bool = False
    events: tuple[LinkEvent, ...] = ()
    merged: dict[int, tuple[int, ...]] = field(default_factory=dict)
    divided: dict[int, tuple[int, ...]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Tell the result as JSON-able values."""
        return {
            "source": self.source,
            "class_name": self.class_name,
            "specimens": self.specimens,
            "instances": self.instances,
            "unlinked": self.unlinked,
            "identities_kept": self.kept,
            "events": [event.summary() for event in self.events],
            "merged_identities": {str(k): list(v) for k, v in self.merged.items()},
            "divided_identities": {str(k): list(v) for k, v in self.divided.items()},
        }


def run(
    project_path: Path,
    params: LinkParams,
    *,
    job: Job = QUIET,
) -> LinkOutcome:
    """Link a source; only the column that tells specimens is written.

    Identities that an imported file brought are kept unless ``params.relink`` is set.

    Raises
    ------
    FossilError
        Where there is no such source, or nothing of the class in it.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        params = with_class(project, params)
        with project.ledger.recorded("link", params.model_dump(mode="json")) as summary:
            outcome = _run(project, params, job)
            summary.update(outcome.summary())
    return outcome


def _run(project: Project, params: LinkParams, job: Job) -> LinkOutcome:
    source = find_linkable(project, params.source)
    reader = _Reader(project, source, params, job)
    keep = project.ledger.identified(source, params.class_name) and not params.relink
    outcome = _kept(reader, params) if keep else None
    if outcome is None or outcome.specimens == 0:
        outcome = _linked(project, reader, params)
    project.ledger.set_meta(LINKED, {"source": source, "class_name": params.class_name})
    return outcome


class _Reader:
    """Reads a slice after the other and remembers the identities it meets."""

    def __init__(
        self,
        project: Project,
        source: str,
        params: LinkParams,
        job: Job,
    ) -> None:
        self._project, self.source, self._params = project, source, params
        self._job = job
        self.identities: Identities = {}
        self.classes: set[str] = set()

    def slices(self) -> Iterator[Sequence[Instance]]:
        """Read the instances to be linked, slice by slice."""
        chosen = slices_of(self._project, self.source)
        message = "Linking slice"
        for z in self._job.tracked(chosen, len(chosen), message):
            yield self._read(z)

    def _read(self, z: int) -> Sequence[Instance]:
        if self.source == LABELS:
            self._adopt(z)
        found = self._project.instances(self.source, z)
        self.classes.update(i.class_name for i in found)
        ours = [i for i in found if i.class_name == self._params.class_name]
        self.identities.update((i.id, i.specimen) for i in ours if i.id is not None)
        return without_orphans([i for i in ours if i.score >= self._params.score])

    def _adopt(self, z: int) -> None:
        """Give rows to values that a person painted without asking for an id."""
        project = self._project
        values = project.labels.values(z)
        if values:
            project.ledger.adopt(z, values, project.settings.classes[0], project.slice_shape)


def _require_some(params: LinkParams, reader: _Reader) -> None:
    if not reader.identities:
        raise FossilError(
            f"{reader.source} has nothing to link",
            expected=f"instances of the class {params.class_name}",
            found=", ".join(sorted(reader.classes)) or "no instance",
        )


def _kept(reader: _Reader, params: LinkParams) -> LinkOutcome:
    """Count what the file brought."""
    for _ in reader.slices():
        pass
    _require_some(params, reader)
    known = [s for s in reader.identities.values() if s is not None]
    unlinked = len(reader.identities) - len(known)
    return LinkOutcome(
        reader.source, params.class_name, len(set(known)), len(known), unlinked, kept=True
    )


def _linked(project: Project, reader: _Reader, params: LinkParams) -> LinkOutcome:
    """Link, write who belongs where, and compare with what was known before."""
    result = link(
        reader.slices(),
        min_overlap=params.min_overlap,
        max_gap=params.max_gap,
        min_slices=params.min_slices,
    )
    _require_some(params, reader)
    told = project.ledger.identified(reader.source, params.class_name)
    known = reader.identities if told else {}
    _store(project, reader, params.class_name, result)
    members = sum(s is not None for s in result.specimens.values())
    return LinkOutcome(
        reader.source,
        params.class_name,
        result.count,
        members,
        len(reader.identities) - members,
        events=result.events,
        merged=merged_identities(result, known),
        divided=divided_identities(result, known),
    )


def _store(project: Project, reader: _Reader, class_name: str, result: LinkResult) -> None:
    """Write the specimens; instances below the threshold lose what they had."""
    everyone: Identities = dict.fromkeys(reader.identities)
    project.ledger.set_specimens(reader.source, everyone | result.specimens)
    project.ledger.set_guessed(reader.source, class_name)
