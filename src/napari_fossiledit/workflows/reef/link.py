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
    divided_identities,
    link,
    merged_identities,
)
from napari_fossiledit.workflows.shared.sources import with_class, without_orphans
from napari_fossiledit.workflows.shared.specimens import LINKED, find_linkable, slices_of

Identities = dict[int, int | None]


@dataclass(frozen=True)
class LinkOutcome:
    """Counts and events of a linking.

    Attributes
    ----------
    source, class_name
        What was linked.
    specimens, instances, unlinked
        Number of specimens, of instances in them, and of instances in none.
    kept
        True where the identities that a file brought were kept, and nothing was linked.
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
        """Return the result as JSON-able values."""
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
    """Link a source; only the column of specimens is written.

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
            reader = _Reader(project, find_linkable(project, params.source), params, job)
            keep = project.ledger.identified(reader.source, params.class_name)
            outcome = _kept(reader) if keep and not params.relink else None
            if outcome is None or outcome.specimens == 0:
                outcome = _linked(reader)
            linked = {"source": reader.source, "class_name": params.class_name}
            project.ledger.set_meta(LINKED, linked)
            summary.update(outcome.summary())
    return outcome


class _Reader:
    """Reads one slice after the other and collects the identities in them."""

    def __init__(self, project: Project, source: str, params: LinkParams, job: Job) -> None:
        self.project, self.source, self.params = project, source, params
        self._job = job
        self.identities: Identities = {}
        self._classes: set[str] = set()

    def slices(self) -> Iterator[Sequence[Instance]]:
        """Read the instances to be linked, slice by slice."""
        project, params = self.project, self.params
        chosen = slices_of(project, self.source)
        for z in self._job.tracked(chosen, len(chosen), "Linking slice"):
            if self.source == LABELS and (values := project.labels.values(z)):
                # A person may have painted values without asking for an id.
                project.ledger.adopt(z, values, project.settings.classes[0], project.slice_shape)
            instances = project.instances(self.source, z)
            self._classes.update(i.class_name for i in instances)
            ours = [i for i in instances if i.class_name == params.class_name]
            self.identities.update((i.id, i.specimen) for i in ours if i.id is not None)
            yield without_orphans([i for i in ours if i.score >= params.score])
        if not self.identities:
            raise FossilError(
                f"{self.source} has nothing to link",
                expected=f"instances of the class {params.class_name}",
                found=", ".join(sorted(self._classes)) or "no instance",
            )


def _kept(reader: _Reader) -> LinkOutcome:
    """Count what the file brought."""
    for _ in reader.slices():
        pass
    specimens = [s for s in reader.identities.values() if s is not None]
    return LinkOutcome(
        reader.source,
        reader.params.class_name,
        specimens=len(set(specimens)),
        instances=len(specimens),
        unlinked=len(reader.identities) - len(specimens),
        kept=True,
    )


def _linked(reader: _Reader) -> LinkOutcome:
    """Link, write who belongs where, and compare with the identities that there were."""
    ledger, params = reader.project.ledger, reader.params
    result = link(
        reader.slices(),
        min_overlap=params.min_overlap,
        max_gap=params.max_gap,
        min_slices=params.min_slices,
    )
    identified = ledger.identified(reader.source, params.class_name)
    before = reader.identities if identified else {}
    # Instances below the threshold lose what they had.
    everyone: Identities = dict.fromkeys(reader.identities)
    ledger.set_specimens(reader.source, everyone | result.specimens)
    ledger.set_guessed(reader.source, params.class_name)
    members = sum(s is not None for s in result.specimens.values())
    return LinkOutcome(
        reader.source,
        params.class_name,
        specimens=result.count,
        instances=members,
        unlinked=len(reader.identities) - members,
        events=result.events,
        merged=merged_identities(result, before),
        divided=divided_identities(result, before),
    )
