"""Fossils through several slices: interpolated, copied, merged, split and described as a whole."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment
from skimage.measure import label

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import check_slice, format_slices, parse_slices
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.interpolate import interpolate as interpolated
from napari_fossiledit.masks.rle import intersections, overlap, union
from napari_fossiledit.params.review import (
    CopyParams,
    InterpolateParams,
    SameParams,
    SpecimensParams,
)
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Numbered, Project
from napari_fossiledit.reef.link import link
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.annotate.corrections import counted, parse_ids
from napari_fossiledit.workflows.shared.sources import known_class

#: Share of the smaller of two sections of a slice from which on they are taken for one.
_SAME = 0.5

#: A body and its cavities.
Family = Sequence[Instance]


@dataclass(frozen=True)
class ThroughResult(Summary):
    """Sections that were put into slices, or would be.

    Attributes
    ----------
    sections
        Bodies and cavities, with their ids where they were written.
    slices
        Slices that got any.
    replaced
        Earlier interpolations that nobody had reviewed and that they replaced.
    kept
        Slices that were left alone: they are traced, or all in them is reviewed.
    there
        How many were left out because the fossil was drawn there already.
    covered
        How many were left out because too little was left of them beside other fossils.
    alone
        Fossils of a slice that have no partner in the next one.
    long_gaps
        Pairs of slices with more slices between them than asked for.
    written
        False where it was only a preview.
    """

    sections: tuple[Instance, ...]
    slices: tuple[int, ...]
    replaced: int
    kept: tuple[int, ...]
    there: int
    covered: int
    alone: int = 0
    long_gaps: tuple[tuple[int, int], ...] = ()
    written: bool = True

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values; bodies are counted, masks left out."""
        listed = {name: format_slices(getattr(self, name)) for name in ("slices", "kept")}
        bodies = sum(i.part is Part.BODY for i in self.sections)
        return super().summary() | listed | {"sections": bodies}


@dataclass(frozen=True)
class SpecimensResult(Summary):
    """What became of specimens.

    Attributes
    ----------
    class_name, specimens
        Their class and their numbers after the change, smallest first.
    slices
        Slices that changed.
    instances
        How many instances changed.
    reviewed
        How many were left alone because a person has found them right.
    """

    class_name: str
    specimens: tuple[int, ...]
    slices: tuple[int, ...]
    instances: int
    reviewed: int

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return super().summary() | {"slices": format_slices(self.slices)}


def interpolate(
    project_path: Path, params: InterpolateParams, *, job: Job = QUIET
) -> ThroughResult:
    """Interpolate the fossils between slices of the user's set, as one action.

    Sections belong together where they have the number of one specimen, else where they overlap,
    else where they are near each other. A specimen that is missing in one of the slices is not
    interpolated across it. Nothing is written over another instance, nor in a slice that is traced
    or wholly reviewed.

    Raises
    ------
    FossilError
        Where there are not two such slices, or the ledger cannot be written.
    """
    with Project.open(project_path, read_only=params.preview or None) as project:
        ledger, name = project.ledger, known_class(project, params.class_name)
        chosen = {*parse_ids(params.specimens)}
        if missing := chosen - {i.specimen for i in ledger.numbered(ANNOTATIONS)}:
            raise _unknown(missing, "the annotations")
        drawn = ledger.drawn()
        every = params.slices.strip().lower() == "all"
        given = drawn if every else parse_slices(params.slices, project.shape[0])
        if len(given) < 2 or not {*given} <= {*drawn}:
            raise FossilError(
                "There is nothing to interpolate between",
                expected="two slices at least with annotations that are not interpolated",
                found=f"slices {format_slices(given) or 'none'} asked for, and annotations in "
                f"{format_slices(drawn) or 'none'}",
            )
        gaps = [(a, b) for a, b in pairwise(given) if b > a + 1]
        long = tuple((a, b) for a, b in gaps if b - a - 1 > params.max_gap)
        gaps = [gap for gap in gaps if gap not in long]
        done = {z for z, (reviewed, bodies) in ledger.reviewed().items() if reviewed == bodies}
        places = _Places(project, params.least_area, params.preview, {*ledger.traced()} | done)
        # The next ones on either side tell how place and size go on.
        ends = [z for z in drawn if z < given[0]][-1:], [z for z in drawn if z > given[-1]][:1]
        line, alone = [*ends[0], *given, *ends[1]], 0
        for a, b in job.tracked(gaps, len(gaps), "Interpolating"):
            near = line[max(line.index(a) - 1, 0) : line.index(b) + 2]
            found = ledger.instances(ANNOTATIONS, slices=near, class_name=name or None)
            for group in _groups([i for i in found if i.mask.area and not _guessed(i)], near, a, b):
                there = {a, b} & {i.slice for i in group if i.part is Part.BODY}
                if not chosen or chosen & {i.specimen for i in group}:
                    alone += len(there) == 1
                    if len(there) == 2:
                        places.wanted += _between(group, a, b)
        what = f"interpolate between slices {given[0]} and {given[-1]}"
        return places.fill(what, alone=alone, long_gaps=long)


def copy(project_path: Path, params: CopyParams, *, job: Job = QUIET) -> ThroughResult:
    """Copy annotations of a slice and their cavities to other slices, as one action.

    Where they reach over another instance they are cut; where the fossil is drawn already they
    are left out. They count as interpolated until a person has reviewed them.

    Raises
    ------
    FossilError
        Where the slice does not hold such instances, or the ledger cannot be written.
    """
    with Project.open(project_path, read_only=params.preview or None) as project:
        depth = project.shape[0]
        z, ids = check_slice(params.slice, depth), {*parse_ids(params.ids)}
        step = {"next": 1, "previous": -1}.get(params.to.strip().lower(), 0)
        to = [check_slice(z + step, depth)] if step else parse_slices(params.to, depth)
        if to == [z]:
            raise FossilError(
                f"Masks of slice {z} cannot be copied onto themselves", expected="another slice"
            )
        own = project.ledger.instances(ANNOTATIONS, slices=[z])
        bodies = {i.id: i for i in own if i.part is Part.BODY}
        if not ids or not ids <= bodies.keys():
            raise FossilError(
                f"Slice {z} has no such annotations to copy",
                expected=f"ids among {', '.join(map(str, bodies)) or 'none'}",
                found=params.ids or "none",
            )
        places = _Places(project, params.least_area, params.preview)
        for target in (t for t in to if t != z):
            for id_ in sorted(ids):
                family = [bodies[id_], *(i for i in own if i.parent == id_)]
                places.wanted.append([_unseen(i, target) for i in family])
        return places.fill(f"copy {counted([*ids])} from slice {z}")


def specimens(project_path: Path, params: SpecimensParams, *, job: Job = QUIET) -> SpecimensResult:
    """Merge specimens, split them, describe them anew or delete them, in all slices as one action.

    Merging and splitting change numbers and no mask, also of what a person has found right; linking
    keeps these numbers from then on.

    Raises
    ------
    FossilError
        Where there are no such specimens, it is not clear what to do, or a split leaves nothing.
    """
    numbers, split = parse_ids(params.specimens), params.split_at
    unsure = params.unsure.answer
    described = bool(params.new_class) or params.texture is not None or unsure is not None
    tasks = {"merge": params.merge, "split": split is not None, "delete": params.delete}
    asked = [task for task, wanted in (tasks | {"describe": described}).items() if wanted]
    if len(asked) != 1 or len(numbers) < 1 + params.merge:
        raise FossilError(
            "It is not clear what to do with specimens",
            expected="numbers of specimens, two at least to merge them, and one thing to do: merge,"
            " split, delete or describe",
            found=f"{params.specimens or 'no number'}; {', '.join(asked) or 'nothing'} to do",
        )
    with Project.open(project_path) as project:
        project.require_writable()
        ledger, new_class = project.ledger, known_class(project, params.new_class)
        action = ledger.begin(f"{asked[0]} specimens {params.specimens}")
        with ledger.transaction():
            every = ledger.numbered(ANNOTATIONS)
            name = _class_of(numbers, every, known_class(project, params.class_name))
            kind = new_class or name
            members = [i for i in every if i.class_name == name and i.specimen in numbers]
            fresh = 1 + max((i.specimen for i in every if i.class_name == kind), default=0)
            new = {n: n for n in numbers}
            if params.merge:
                new = dict.fromkeys(numbers, numbers[0])
            elif split is not None or kind != name:
                new = {n: fresh + k for k, n in enumerate(numbers)}
            if split is not None:
                _check_split(members, split)
                changed = [i for i in members if i.slice >= split]
            elif params.merge:
                changed = [i for i in members if i.specimen != numbers[0]]
            else:
                changed = [i for i in members if params.reviewed_too or not i.reviewed]
            ids = {i.id: new[i.specimen] for i in changed}
            if params.delete:
                for z in {i.slice for i in changed}:
                    ledger.edit(z, remove=[i.id for i in changed if i.slice == z], action=action)
            ledger.describe(
                ids,
                unsure=unsure,
                texture=params.texture,
                class_name=new_class or None,
                action=action,
            )
            if new != {n: n for n in numbers}:
                # Who decides about a part of a specimen has seen the rest of it.
                told = {i.id: i.specimen for i in members} | ids
                ledger.set_specimens(ANNOTATIONS, told, action=action)
                ledger.set_identified(ANNOTATIONS, True, action)
            there = {i.id for i in members}
            after = {i.specimen for i in ledger.numbered(ANNOTATIONS) if i.id in there}
    slices = tuple(sorted({i.slice for i in changed}))
    left = 0 if params.merge or split is not None else len(members) - len(changed)
    return SpecimensResult(kind, tuple(sorted(after)), slices, len(changed), left)


def same(project_path: Path, params: SameParams, *, job: Job = QUIET) -> SpecimensResult:
    """Write whether two linked sections are of one specimen; linking keeps to it from then on.

    Where they are not, all that goes on from the later one gets a new number, as one action.

    Raises
    ------
    FossilError
        Where the sections are gone or not of one specimen, or the ledger cannot be written.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        ledger = project.ledger
        what = "one specimen" if params.same else "two specimens"
        action = ledger.begin(f"{params.before} and {params.after} are {what}")
        with ledger.transaction():
            every = ledger.numbered(ANNOTATIONS)
            pair = [i for i in every if i.id in (params.before, params.after)]
            alike = len({(i.class_name, i.specimen) for i in pair}) == 1
            if not alike or len({i.slice for i in pair}) != 2:
                raise FossilError(
                    f"Sections {params.before} and {params.after} are not linked",
                    expected="two sections of one specimen in two slices",
                    found=", ".join(f"{i.id} of specimen {i.specimen}" for i in pair) or "neither",
                    advice="Link again, and look at the next place.",
                )
            before, after = pair
            name, number = before.class_name, before.specimen
            told, changed = {before.id: number, after.id: number}, dict[int, int]()
            if not params.same:
                told[after.id] = 1 + max(i.specimen for i in every if i.class_name == name)
                members = [i.id for i in every if (i.class_name, i.specimen) == (name, number)]
                sides = _apart(project.ledger.instances(ANNOTATIONS, ids=members), pair, told)
                changed = {i: n for i, n in sides.items() if n != number}
                ledger.set_specimens(ANNOTATIONS, changed, guessed=True, action=action)
            ledger.set_specimens(ANNOTATIONS, told, action=action)
            ledger.set_identified(ANNOTATIONS, True, action)
    slices = sorted({i.slice for i in every if i.id in changed})
    numbers = tuple(sorted({*told.values()}))
    return SpecimensResult(name, numbers, tuple(slices), len(changed), 0)


def _apart(
    members: Sequence[Instance], pair: Sequence[Numbered], told: Mapping[int, int]
) -> dict[int, int]:
    """Return whose each instance of a specimen is, where two of its sections are of two."""
    slices = ([i for i in members if i.slice == z] for z in sorted({i.slice for i in members}))
    # Those of each side are known to be together: the least overlap will do.
    linked = link(slices, min_overlap=0.01, max_gap=pair[1].slice, known=told).specimens
    sides = dict[int, int]()
    for item in members:
        number = linked.get(item.id or 0)
        if number is None or number not in told.values():
            number = told[pair[item.slice >= pair[1].slice].id]
        sides[item.id or 0] = number
    return sides


def _check_split(members: Sequence[Numbered], split: int) -> None:
    slices: dict[int, list[int]] = {}
    for i in members:
        slices.setdefault(i.specimen, []).append(i.slice)
    for number, there in slices.items():
        if not min(there) < split <= max(there):
            raise FossilError(
                f"A split of specimen {number} at slice {split} leaves nothing of one part",
                expected=f"a slice from {min(there) + 1} to {max(there)}",
                found=split,
            )


def _class_of(numbers: Sequence[int], every: Sequence[Numbered], name: str) -> str:
    """Return the class of specimens: numbers begin anew in each."""
    classes = {n: {i.class_name for i in every if i.specimen == n} for n in numbers}
    if missing := {n for n, names in classes.items() if not (name in names if name else names)}:
        raise _unknown(missing, name or "the annotations")
    common = {name} if name else set.intersection(*classes.values())
    if len(common) != 1:
        listed = (f"{n} of {', '.join(sorted(names))}" for n, names in classes.items())
        raise FossilError(
            "These specimens are not of one class, or their numbers occur in several",
            expected="specimens of one class",
            found="; ".join(listed),
            advice="Name the class with --class, or change the class of one of them first.",
        )
    return common.pop()


def _unknown(numbers: Iterable[int], where: str) -> FossilError:
    listed = ", ".join(map(str, sorted(numbers)))
    return FossilError(
        f"No specimen of {where} has the number {listed}",
        expected="numbers of linked specimens",
        advice="Link first, or look at the list of specimens for their numbers.",
    )


def _guessed(item: Instance) -> bool:
    return item.origin is Origin.INTERPOLATED and not item.reviewed


def _unseen(item: Instance, z: int) -> Instance:
    return replace(item, slice=z, origin=Origin.INTERPOLATED, reviewed=False, score=1.0)


def _groups(found: Sequence[Instance], near: Sequence[int], a: int, b: int) -> list[Family]:
    """Return the instances of each specimen; `a` and `b` are the slices to interpolate between."""
    groups: list[list[Instance]] = []
    for name in sorted({i.class_name for i in found}):
        items = [i for i in found if i.class_name == name]
        known = {i.id: i.specimen for i in items if i.id is not None and i.specimen is not None}
        slices = ([i for i in items if i.slice == z] for z in near)
        linked = link(slices, max_gap=near[-1] - near[0], known=known).specimens
        numbers = {linked[i.id or 0] for i in items} - {None}
        own = [[i for i in items if linked[i.id or 0] == n] for n in sorted(filter(None, numbers))]
        groups += _with_nearest(own, a, b)
    return [*groups]


def _with_nearest(groups: list[list[Instance]], a: int, b: int) -> list[list[Instance]]:
    """Join groups that end in one slice with the nearest that begin in the other.

    Two are near where circles of their areas about the middles of their boxes would touch. Those
    that are known to be of two specimens stay apart.
    """
    bodies = [[i for i in group if i.part is Part.BODY] for group in groups]
    slices = [{i.slice for i in members} for members in bodies]
    ends = [n for n, there in enumerate(slices) if a in there and b not in there]
    starts = [n for n, there in enumerate(slices) if b in there and a not in there]
    if not ends or not starts:
        return groups
    rings = []
    for side, z in ((ends, a), (starts, b)):
        drawn = [
            union([i.mask for i in bodies[n] if i.slice == z], bodies[n][0].mask.shape)
            for n in side
        ]
        middles = [((m.box[0] + m.box[2]) / 2, (m.box[1] + m.box[3]) / 2) for m in drawn]
        rings.append((np.array(middles), np.sqrt([m.area / math.pi for m in drawn])))
    (place, radius), (place_b, radius_b) = rings
    away = np.linalg.norm(place[:, None] - place_b[None], axis=2) / (radius[:, None] + radius_b)
    known = [{i.specimen for i in group} - {None} for group in groups]
    apart = [[bool(known[n]) and bool(known[m]) for m in starts] for n in ends]
    # Whatever is too far costs more than all near ones together.
    away[(away > 1) | np.array(apart)] = len(groups)
    gone = set()
    for row, column in zip(*linear_sum_assignment(away), strict=True):
        if away[row, column] <= 1:
            groups[ends[row]].extend(groups[starts[column]])
            gone.add(starts[column])
    return [group for n, group in enumerate(groups) if n not in gone]


def _between(group: Family, a: int, b: int) -> Iterator[Family]:
    """Return the sections of a specimen in the slices between two."""
    shape = group[0].mask.shape
    known: dict[Part, dict[int, Mask]] = {Part.BODY: {}, Part.CAVITY: {}}
    for part, sections in known.items():
        for z in {i.slice for i in group if i.part is part}:
            sections[z] = union([i.mask for i in group if i.part is part and i.slice == z], shape)
    between = range(a + 1, b)
    bodies = interpolated(known[Part.BODY], between)
    hollow = {a, b} <= known[Part.CAVITY].keys()
    cavities = interpolated(known[Part.CAVITY], between) if hollow else {}
    drawn = [i for i in group if i.part is Part.BODY and i.slice in (a, b)]
    number = next((i.specimen for i in drawn if i.specimen is not None), None)
    body = replace(drawn[0], specimen=number)
    branches = len(drawn) > 2
    for z, mask in bodies.items():
        for piece in _pieces(mask) if branches else (mask,):
            family = [replace(_unseen(body, z), mask=piece)]
            if z in cavities:
                family.append(replace(family[0], mask=cavities[z] & piece, part=Part.CAVITY))
            yield family


def _pieces(mask: Mask) -> list[Mask]:
    """Return the connected parts of a mask."""
    parts = label(mask.crop(), connectivity=1)
    numbers = range(1, int(parts.max()) + 1)
    return [Mask.from_crop(parts == n, mask.box[:2], mask.shape) for n in numbers]


@dataclass
class _Places:
    """Puts new sections beside what the user's set holds.

    Attributes
    ----------
    least_area
        Smaller sections are left out, in pixels.
    preview
        Write nothing.
    locked
        Slices that are left alone.
    wanted
        A body and its cavities each.
    """

    project: Project
    least_area: int
    preview: bool
    locked: Set[int] = frozenset()
    wanted: list[Family] = field(default_factory=list)
    there: int = 0
    covered: int = 0

    def fill(self, what: str, **more: Any) -> ThroughResult:
        """Write the sections as one action: all of them, or none where writing fails."""
        ledger = self.project.ledger
        if not self.preview:
            self.project.require_writable()
        action, made, replaced = ledger.begin(what), list[Instance](), 0
        slices = {family[0].slice for family in self.wanted}
        with nullcontext() if self.preview else ledger.transaction():
            for z in sorted(slices - self.locked):
                put, gone = self._fit(z, ledger.instances(ANNOTATIONS, slices=[z]))
                replaced += len(gone)
                if put and not self.preview:
                    ids = ledger.edit(z, put=put, remove=gone, action=action)
                    new = dict(zip((i.id for i in put), ids, strict=True))
                    put = [replace(i, id=new[i.id], parent=new.get(i.parent)) for i in put]
                made += put
        return ThroughResult(
            tuple(made),
            tuple(sorted({i.slice for i in made})),
            replaced,
            tuple(sorted(slices & self.locked)),
            self.there,
            self.covered,
            written=not self.preview,
            **more,
        )

    def _fit(self, z: int, now: Sequence[Instance]) -> tuple[list[Instance], list[int]]:
        """Return what fits into a slice, with negative ids, and the ids of what it replaces."""
        put: list[Instance] = []
        gone: set[int | None] = set()
        fresh = count(-1, -1)
        for body, *cavities in (family for family in self.wanted if family[0].slice == z):
            kind = [i for i in now if i.part is Part.BODY and i.class_name == body.class_name]
            shared = intersections([body.mask], [i.mask for i in kind])[0]
            twins = [
                i
                for i, pixels in zip(kind, shared, strict=True)
                if (i.specimen is not None and i.specimen == body.specimen)
                or pixels > _SAME * min(i.mask.area, body.mask.area)
            ]
            same = {i.id for i in twins}
            # Also where a person has drawn a cavity into an interpolated fossil.
            if any(not _guessed(i) for i in now if i.family in same):
                self.there += 1
                continue
            old = gone | same
            beside = [i.mask for i in [*now, *put] if i.id not in old and i.parent not in old]
            near = [m for m in beside if m.area and overlap(m.box, body.mask.box)]
            mask = body.mask - union(near, body.mask.shape)
            if mask.area < max(self.least_area, _SAME * body.mask.area):
                self.covered += 1
                continue
            gone, number = old, next(fresh)
            put.append(replace(body, mask=mask, id=number, parent=None))
            for cavity in cavities:
                if (inside := cavity.mask & mask).area:
                    put.append(replace(cavity, mask=inside, id=next(fresh), parent=number))
        return put, [id_ for id_ in gone if id_ is not None]
