"""Link the instances of neighbouring slices to specimens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.reconstruct import EVERY_CLASS, LinkParams
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Action, DamagedError, Project
from napari_fossiledit.reef.link import (
    LinkEvent,
    divided_identities,
    link,
    merged_identities,
)
from napari_fossiledit.workflows.shared.sources import (
    Choice,
    choose,
    partly_known,
    with_class,
    without_orphans,
)
from napari_fossiledit.workflows.shared.specimens import note_linked
from napari_fossiledit.workflows.shared.stale import stale_notes

Identities = dict[int, int | None]


@dataclass(frozen=True)
class LinkOutcome:
    """Counts and events of a linking.

    Attributes
    ----------
    source, class_name
        What was linked.
    mask_cut
        Probability at which the masks of predictions end.
    specimens, instances, unlinked
        Number of specimens, of instances in them, and of instances in none.
    doubtful
        Number of links that should be looked at.
    kept
        True where the identities that a file brought were kept.
    events
        Splits and merges.
    merged, divided
        Known identities that are one specimen now, and specimens that one identity became.
    parts
        Slices that each source was asked for.
    warnings
        What the user should know.
    classes
        Outcome of each class where several were linked; all counts are then sums, and specimens
        are compared with known identities in the classes alone.
    """

    source: str
    class_name: str
    mask_cut: float
    specimens: int
    instances: int
    unlinked: int
    doubtful: int = 0
    kept: bool = False
    events: tuple[LinkEvent, ...] = ()
    merged: dict[int, tuple[int, ...]] = field(default_factory=dict)
    divided: dict[int, tuple[int, ...]] = field(default_factory=dict)
    parts: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    classes: tuple[LinkOutcome, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "source": self.source,
            "sources": self.parts,
            "class_name": self.class_name,
            "mask_cut": self.mask_cut,
            "specimens": self.specimens,
            "instances": self.instances,
            "unlinked": self.unlinked,
            "doubtful": self.doubtful,
            "identities_kept": self.kept,
            "events": [event.summary() for event in self.events],
            "merged_identities": {str(k): list(v) for k, v in self.merged.items()},
            "divided_identities": {str(k): list(v) for k, v in self.divided.items()},
            "warnings": list(self.warnings),
            **({"classes": [o.summary() for o in self.classes]} if self.classes else {}),
        }


def run(
    project_path: Path,
    params: LinkParams,
    *,
    job: Job = QUIET,
) -> LinkOutcome:
    """Link a source; only the column of specimens is written.

    Identities that an imported file brought are kept unless ``params.relink`` is set: instances
    without one are linked to them.

    Raises
    ------
    FossilError
        Where there is no such source, or nothing of the class in it.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        every = params.class_name == EVERY_CLASS
        params = params if every else with_class(project, params)
        with project.ledger.recorded("link", params.model_dump(mode="json")) as summary:
            choice = choose(project, params.source)
            names = [params.class_name]
            if every:
                known = {c for source in choice.parts for c in project.ledger.classes(source)}
                names = sorted(known - {ROCK_CLASS}) or [project.settings.classes[0]]
            action = project.ledger.begin(f"link {', '.join(names)}")
            found: list[LinkOutcome] = []
            for name in names:
                one = params.model_copy(update={"class_name": name})
                # A class may occur only in slices of a source that another one stands in for.
                needed = name == names[-1] and not found
                outcome = _link(project, choice, one, action, job, needed=needed)
                found += [outcome] if outcome else []
            outcome = found[0] if len(found) == 1 else _together(found)
            summary.update(outcome.summary())
    return outcome


def _together(found: Sequence[LinkOutcome]) -> LinkOutcome:
    """Return one outcome of several classes."""
    first = found[0]
    return LinkOutcome(
        first.source,
        EVERY_CLASS,
        first.mask_cut,
        specimens=sum(o.specimens for o in found),
        instances=sum(o.instances for o in found),
        unlinked=sum(o.unlinked for o in found),
        doubtful=sum(o.doubtful for o in found),
        kept=any(o.kept for o in found),
        events=tuple(e for o in found for e in o.events),
        parts=first.parts,
        warnings=tuple(dict.fromkeys(w for o in found for w in o.warnings)),
        classes=tuple(found),
    )


@dataclass
class _Reader:
    """Reads one slice after the other and notes whose the instances are, and of which specimen."""

    project: Project
    choice: Choice
    params: LinkParams
    job: Job
    found: dict[str, Identities] = field(default_factory=dict)
    classes: set[str] = field(default_factory=set)
    damaged: dict[int, str] = field(default_factory=dict)

    def slices(self) -> Iterator[Sequence[Instance]]:
        """Read the instances to be linked, slice by slice."""
        chosen = self.choice.slices
        for z in self.job.tracked(chosen, len(chosen), "Linking slice"):
            source = self.choice.source_of(z)
            try:
                instances = self.project.instances(source, z)
                linked = self.project.instances(
                    source,
                    z,
                    class_name=self.params.class_name,
                    min_score=self.params.score,
                    mask_cut=self.params.mask_cut,
                )
            except DamagedError as error:
                self.damaged[z] = str(error)
                continue
            self.classes.update(i.class_name for i in instances)
            ours = [i for i in instances if i.class_name == self.params.class_name]
            # Also of those that are not linked now: they belong to no specimen any more.
            noted = self.found.setdefault(source, {})
            noted.update((i.id, i.specimen) for i in ours if i.id is not None)
            yield without_orphans(linked)


def _link(
    project: Project,
    choice: Choice,
    params: LinkParams,
    action: Action,
    job: Job,
    *,
    needed: bool,
) -> LinkOutcome | None:
    """Link a class, write who belongs where, and compare with the identities that there were."""
    ledger, name = project.ledger, params.class_name
    told = {source: ledger.known_specimens(source, name) for source in choice.parts}
    # Where two files each told their own specimens, their numbers do not mean the same.
    known = {} if params.relink else dict(next((t for t in told.values() if t), {}))
    reader = _Reader(project, choice, params, job)
    result = link(
        reader.slices(),
        min_overlap=params.min_overlap,
        max_gap=params.max_gap,
        min_slices=params.min_slices,
        branches=params.branches,
        known=known,
    )
    if not any(reader.found.values()):
        if not needed:
            return None
        raise FossilError(
            f"{choice.name} has nothing to link",
            expected=f"instances of the class {name}",
            found=", ".join([*sorted(reader.classes), *reader.damaged.values()]) or "no instance",
        )
    # A slice that cannot be read is one that nobody has looked at.
    choice = choice.without(reader.damaged)
    # All or nothing: numbers of two linkings mean nothing together.
    with ledger.transaction():
        for source, identities in reader.found.items():
            new = {i: result.specimens.get(i) for i in identities if i not in known}
            ledger.set_specimens(source, new, guessed=True, action=action)
            if not known.keys() & identities.keys():
                ledger.set_guessed(source, name, action)
        note_linked(project, choice, name, result.specimens, reader.found, action, params.mask_cut)
        # Linking predictions leaves the doubts about the user's set as they are.
        if (own := reader.found.get(ANNOTATIONS)) is not None:
            doubts = [d for d in result.doubts if d.before in own and d.after in own]
            links = [(d.slice, d.before, d.after, d.pixels) for d in doubts]
            ledger.places.doubt(name, links, action)
    everyone = {i: s for identities in reader.found.values() for i, s in identities.items()}
    before = {i: s for told_here in told.values() for i, s in told_here.items()}
    members = sum(s is not None for s in result.specimens.values())
    return LinkOutcome(
        choice.name,
        name,
        params.mask_cut,
        specimens=result.count,
        instances=members,
        unlinked=len(everyone) - members,
        doubtful=len(result.doubts),
        kept=bool(known),
        events=result.events,
        merged={} if known else merged_identities(result, before),
        divided={} if known else divided_identities(result, before),
        parts=choice.record(),
        warnings=(
            *reader.damaged.values(),
            *_warnings(project, choice, params),
            *stale_notes(project, choice.parts),
        ),
    )


def _warnings(project: Project, choice: Choice, params: LinkParams) -> Iterator[str]:
    gaps = choice.gaps
    if gaps:
        first, last = choice.slices[0], choice.slices[-1]
        yield (
            f"{len(gaps)} of the {last - first + 1} slices from {first} to {last} are neither "
            f"annotated nor predicted ({format_slices(gaps)}). What is not known to be the same "
            f"specimen is linked across at most {params.max_gap} slices (--max-gap), and specimens "
            "with such slices in their midst have no volume."
        )
    yield from partly_known(project, choice)
