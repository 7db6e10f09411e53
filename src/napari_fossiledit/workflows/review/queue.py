"""The queue: which place to look at next."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import check_slice, format_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.review import NextParams, QueueParams
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, QUEUED, DamagedError, Project
from napari_fossiledit.selection import Doubt, Neighbours, Place, find_places
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.sources import (
    looked_at,
    source_or_in_use,
)


@dataclass(frozen=True)
class PlaceToSee(Summary):
    """A place, with its size in the rock.

    Attributes
    ----------
    volume_um3
        Volume that is expected to be wrong, in cubic um.
    source
        Whose predictions those of the place are.
    """

    place: Place
    volume_um3: float
    source: str

    def summary(self) -> dict[str, Any]:
        """Return the place as JSON-able values."""
        return {**self.place.__dict__, "volume_um3": self.volume_um3, "source": self.source}


@dataclass(frozen=True)
class QueueResult(Summary):
    """The queue, and how far the review has come.

    Attributes
    ----------
    places
        The first of the places.
    counts
        How many places of each kind of doubt there are in all.
    volume_um3
        Volume that is expected to be wrong at all of them, in cubic um.
    reviewed, masks
        How many bodies are reviewed, or in slices that are traced wholly, and how many there are.
    notes
        What the queue leaves out.
    """

    places: tuple[PlaceToSee, ...]
    counts: Mapping[Doubt, int]
    volume_um3: float
    reviewed: int
    masks: int
    notes: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        counts = {str(doubt): count for doubt, count in self.counts.items()}
        return super().summary() | {"places": [p.summary() for p in self.places], "counts": counts}


def build(project_path: Path, params: QueueParams, *, job: Job = QUIET) -> QueueResult:
    """Look through all masks for places that are worth a look, and list the first ones.

    Afterwards only slices whose masks change are looked through again.

    Raises
    ------
    FossilError
        Where there is no mask at all, or the ledger cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        ledger = project.ledger
        source = _source(project, params.source)
        slices = looked_at(project, ANNOTATIONS) | (ledger.done(source) if source else set())
        if not slices:
            raise FossilError(
                f"{project.path} has no masks that could be looked through",
                advice="Predict, or import annotations.",
            )
        with ledger.transaction():
            ledger.set_meta(QUEUED, source)
            ledger.places.mark(slices)
        problems = _refresh(project, job)
        return _result(project, problems, limit=params.limit)


def next_place(project_path: Path, params: NextParams, *, job: Job = QUIET) -> QueueResult:
    """Return the best place of the queue; none where nothing is left to look at.

    Raises
    ------
    FossilError
        Where there is no queue yet, or the ledger cannot be written.
    """
    if params.doubt not in ("", *Doubt):
        raise FossilError(
            f"There is no kind of doubt {params.doubt!r}", expected=", ".join(map(str, Doubt))
        )
    with Project.open(project_path) as project:
        project.require_writable()
        if project.ledger.get_meta(QUEUED, None) is None:
            raise FossilError(
                f"{project.path} has no queue yet",
                advice="Make it: 'fossiledit review queue', or *Look through all* on the page "
                "*Review*.",
            )
        z = None if params.slice is None else check_slice(params.slice, project.shape[0])
        problems = _refresh(project, job)
        return _result(project, problems, limit=1, skip=params.skip, doubt=params.doubt, z=z)


def _source(project: Project, text: str) -> str:
    """Return the predictions that may hold missing fossils; empty where there are none."""
    if not text and not project.ledger.predictions():
        return ""
    source = source_or_in_use(project, text)
    if source == ANNOTATIONS:
        raise FossilError(
            "The annotations cannot be compared with themselves",
            expected="predictions",
            found=ANNOTATIONS,
        )
    return source


def _refresh(project: Project, job: Job) -> list[str]:
    """Find the places of changed slices anew; return which could not be read."""
    ledger = project.ledger
    traced = _traced(project)
    changed = [z for z in ledger.places.changed() if z in range(project.shape[0])]
    source = str(ledger.get_meta(QUEUED, ""))
    links = ledger.places.doubts() if changed else {}
    known, problems = dict[str, Set[int]](), list[str]()
    for name in {name for each in links.values() for name, _ in each}:
        known[name] = ledger.known_specimens(ANNOTATIONS, name).keys()
    for z in job.tracked(changed, len(changed), "Looking through masks"):
        # What changes between looking and writing would be taken for looked at.
        with ledger.transaction():
            try:
                places = [] if z in traced else _places(project, z, source, traced)
                for name, (_, *pair, pixels) in links.get(z, []):
                    if not known[name] >= {*pair}:
                        places += _linked(ledger.instances(ANNOTATIONS, ids=pair), pixels)
            except DamagedError as error:
                problems.append(str(error))
                places = []
            ledger.places.store(z, places)
    return problems


def _traced(project: Project) -> set[int]:
    """Return the slices that are traced wholly: nothing has to be looked for there."""
    return {z for z, area in project.ledger.traced().items() if area is None}


def _places(project: Project, z: int, source: str, traced: Container[int]) -> list[Place]:
    ledger = project.ledger
    below, own, above = (
        _fossils(ledger.instances(ANNOTATIONS, slices=[y], part=Part.BODY))
        for y in (z - 1, z, z + 1)
    )
    taken = ledger.taken_from([i.id for i in own if i.id is not None])
    return find_places(
        z,
        own,
        # Where nobody has drawn anything, nothing is known to be absent.
        Neighbours(
            below if below or z - 1 in traced else None, above if above or z + 1 in traced else None
        ),
        scores={id_: t.score for id_, t in taken.items()},
        predictions=_fossils(ledger.instances(source, slices=[z])) if source else (),
        denied=ledger.rejected(z),
    )


def _linked(pair: Sequence[Instance], pixels: float) -> list[Place]:
    """Return a place where two sections may not be of one specimen, though linked as such."""
    if len(pair) < 2 or pair[0].specimen is None or pair[0].specimen != pair[1].specimen:
        return []
    before, after = sorted(pair, key=lambda i: i.slice)
    (y0, x0, y1, x1), (v0, u0, v1, u1) = before.mask.box, after.mask.box
    return [
        Place(
            after.slice,
            Doubt.LINK,
            ((Doubt.LINK, pixels),),
            (min(y0, v0), min(x0, u0), max(y1, v1), max(x1, u1)),
            ids=(after.id or 0,),
            before=(before.id or 0,),
        )
    ]


def _fossils(instances: list[Instance]) -> list[Instance]:
    return [i for i in instances if i.class_name != ROCK_CLASS]


def _result(
    project: Project,
    problems: list[str],
    *,
    limit: int,
    skip: int = 0,
    doubt: str = "",
    z: int | None = None,
) -> QueueResult:
    ledger, source = project.ledger, str(project.ledger.get_meta(QUEUED, ""))
    z_um, y_um, x_um = project.geometry.voxel_size.zyx
    voxel = z_um * y_um * x_um
    places = ledger.places.best(limit, skip=skip, doubt=doubt, z=z)
    counts = ledger.places.counts()
    traced, reviewed = _traced(project), ledger.reviewed()
    own, notes = {y for y, (_, every) in reviewed.items() if every}, list(problems)
    if source and (bare := sorted(ledger.done(source) - own - traced)):
        notes.append(
            f"Slices {format_slices(bare)} have predictions only: take them over, so that what may "
            "be wrong with them is looked for."
        )
    return QueueResult(
        tuple(PlaceToSee(p, p.pixels * voxel, source) for p in places),
        {kind: count for kind, (count, _) in counts.items()},
        sum(pixels for _, pixels in counts.values()) * voxel,
        sum(every if y in traced else done for y, (done, every) in reviewed.items()),
        sum(every for _, every in reviewed.values()),
        tuple(notes),
    )
