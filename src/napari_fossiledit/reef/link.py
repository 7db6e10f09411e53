"""From sections to specimens: instances are linked through z by overlap.

Between two slices each section continues at most one section before it, chosen by
`scipy.optimize.linear_sum_assignment` so that the sum of the IoU is greatest. A specimen may be
missing in up to `max_gap` slices; nearer slices are linked first, and across slices in which other
specimens are seen two sections must be alike. Archaeocyaths branch and grow together, so what that
leaves over may still belong to a neighbour:

* a section that goes on none before and lies in a section of the nearest slice before is a branch
  of that specimen (a *split*);
* a section that goes on in none after and lies in a section of the next slice has grown together
  with that specimen (a *merge*). Whether it goes on is known `max_gap` slices later, so that two
  specimens which one mask covers in a few slices are not taken for one.

"Lies in" means at least `branch_overlap` of the smaller of the two. Both are listed as events, so
that they can be looked at; by choice the branches are specimens of their own. A section that lies
in another one of its own slice is nested: it is neither a branch of that specimen nor grown
together with it. Two that nearly cover each other are two masks of one section. Cavities follow the
body they lie in.

Where it is known which specimen some sections belong to, they stay what they are: sections of one
specimen are linked however far apart they are, and those of two never are.

Figures: docs/benchmarks/reef-3d.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet
from scipy.optimize import linear_sum_assignment

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.params.reconstruct import Branches
from napari_fossiledit.summary import Summary

BRANCH_OVERLAP = 0.5
"""Share of the smaller section that must lie in the larger one for a split or a merge."""
_TWINS = 0.5
"""IoU from which on two masks of one slice are of one section."""
_GAP_IOU = 0.4
"""Least IoU across slices with other sections; lower, other specimens were linked."""
_JUMP_IOU, _JUMP_SHARE, _RIVAL = 0.1, 0.7, 0.5
"""A link is doubtful below this IoU or share, and where another one is so nearly as good."""


class LinkKind(StrEnum):
    """Links that are not one section after the other, or that may be wrong."""

    SPLIT = "split"
    MERGE = "merge"
    GAP = "gap"
    JUMP = "jump"
    RIVAL = "rival"


WRONG = {
    LinkKind.SPLIT: 0.093,
    LinkKind.MERGE: 0.11,
    LinkKind.GAP: 0.06,
    LinkKind.JUMP: 0.11,
    LinkKind.RIVAL: 0.01,
}
"""Share of such links that were wrong on six sample reefs, traced and predicted."""


@dataclass(frozen=True)
class LinkEvent(Summary):
    """Two sections that were linked, and that should be looked at.

    Attributes
    ----------
    kind
        A split (the specimen branches), a merge (two specimens grow together), a gap (it is
        missing in between), a jump (one is much smaller than the other, or lies mostly beside it)
        or a rival (another section is nearly as like).
    slice
        The later of the two slices.
    specimen
        The specimen after linking.
    before, after
        Instance ids of the section before and after.
    pixels
        Pixels that are expected to be of another specimen: the area of the smaller section times
        the share of such links that are wrong (`WRONG`).
    """

    kind: LinkKind
    slice: int
    specimen: int | None
    before: int
    after: int
    pixels: float


@dataclass(frozen=True)
class LinkResult:
    """Which specimen each instance belongs to.

    Attributes
    ----------
    specimens
        Specimen by instance id, numbered from 1 in order of the first slice; None where the
        specimen is in fewer slices than asked for.
    doubts
        Links that may be wrong, in stack order.
    """

    specimens: dict[int, int | None]
    doubts: tuple[LinkEvent, ...] = ()

    @property
    def events(self) -> tuple[LinkEvent, ...]:
        """Splits and merges, also where each branch is a specimen of its own."""
        return tuple(d for d in self.doubts if d.kind in (LinkKind.SPLIT, LinkKind.MERGE))

    @property
    def count(self) -> int:
        """Number of specimens."""
        return len(set(self.specimens.values()) - {None})

    @property
    def dropped(self) -> int:
        """Number of instances that belong to no specimen."""
        return sum(s is None for s in self.specimens.values())


@dataclass
class _Section:
    """A body that later slices may continue; `hosts` are those of its slice it is nested in."""

    id: int
    slice: int
    mask: Mask
    hosts: tuple[int, ...] = ()
    continued: bool = False
    #: Section of the next slice that it has grown together with, unless it goes on later.
    into: _Section | None = None


@dataclass
class _Chain:
    """Links made so far; only the sections of the last slices are kept."""

    groups: DisjointSet = field(default_factory=DisjointSet)
    slices: dict[int, set[int]] = field(default_factory=dict)
    parents: dict[int, int | None] = field(default_factory=dict)
    doubts: list[tuple[LinkKind, int, int, int, float]] = field(default_factory=list)
    open: list[_Section] = field(default_factory=list)
    known: Mapping[int, int] = field(default_factory=dict)
    cut: bool = False
    #: Known specimen by the root of its group, and the first of its sections.
    named: dict[int, int] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def add(self, body: Instance) -> None:
        """Add a body, to those of its specimen where that is known."""
        id_ = _id(body)
        self.groups.add(id_)
        self.slices.setdefault(id_, set()).add(body.slice)
        if (specimen := self.known.get(id_)) is not None:
            self.groups.merge(self.first.setdefault(specimen, id_), id_)
            self.named[self.groups[id_]] = specimen

    def specimen(self, id_: int) -> int | None:
        """Return the known specimen that a section belongs to, by itself or by its links."""
        return self.named.get(self.groups[id_]) if self.named else None

    def agree(self, before: _Section, after: _Section) -> bool:
        """Return whether two sections are not known to be of two specimens."""
        one, other = self.specimen(before.id), self.specimen(after.id)
        return one is None or other is None or one == other

    def join(self, before: _Section, after: _Section) -> bool:
        """Put two sections into one specimen, unless they are known to be of two."""
        if not self.agree(before, after):
            return False
        name = self.specimen(before.id)
        name = self.specimen(after.id) if name is None else name
        self.groups.merge(before.id, after.id)
        if name is not None:
            self.named[self.groups[after.id]] = name
        return True

    def branch(self, before: _Section, after: _Section, kind: LinkKind) -> None:
        """List a split or a merge where the sections are apart, and join them unless cut."""
        if self.groups.connected(before.id, after.id) or not self.agree(before, after):
            return
        self.note(kind, before, after)
        if not self.cut:
            self.join(before, after)

    def note(self, kind: LinkKind, before: _Section, after: _Section) -> None:
        """List a link that may be wrong."""
        area = min(before.mask.area, after.mask.area)
        self.doubts.append((kind, after.slice, before.id, after.id, WRONG[kind] * area))

    def close(self, z: int) -> None:
        """Let go of sections before slice `z`: memory does not grow with the stack."""
        for section in self.open:
            if section.slice < z and section.into is not None and not section.continued:
                self.branch(section, section.into, LinkKind.MERGE)
        self.open = [s for s in self.open if s.slice >= z]

    def may_join(self, section: _Section, other: _Section) -> bool:
        """Return whether a section may be of the specimen of another, in which it is not nested."""
        nested = any(self.groups.connected(host, other.id) for host in section.hosts)
        return not nested and self.agree(section, other)


def link(
    slices: Iterable[Sequence[Instance]],
    *,
    min_overlap: float = 0.35,
    max_gap: int = 3,
    min_slices: int = 1,
    branch_overlap: float = BRANCH_OVERLAP,
    branches: Branches = Branches.GRAPH,
    known: Mapping[int, int] | None = None,
) -> LinkResult:
    """Link the instances of one class through the stack.

    Parameters
    ----------
    slices
        Instances of one slice after the other, in rising order of slices. Slices may be empty or
        left out. Only the last ``max_gap + 1`` slices are held.
    min_overlap
        Least shared area of a section and its successor, as share of the smaller one.
    max_gap
        Most slices of the stack a specimen may be missing in.
    min_slices
        Specimens in fewer slices get no number.
    branch_overlap
        Least shared area for a split or a merge, as share of the smaller section; more than 1
        links strictly one to one.
    branches
        Whether branches are of one specimen or each of its own.
    known
        Specimens that are known, by instance id: they keep their numbers, whatever `min_slices`
        is; others are numbered above them.

    Raises
    ------
    FossilError
        Where an instance has no id, or the slices do not rise.
    """
    chain = _Chain(known=known or {}, cut=branches is Branches.CUT)
    last = -1
    for instances in slices:
        if not instances:
            continue
        z = instances[0].slice
        if z <= last or any(i.slice != z for i in instances):
            raise FossilError(
                "Slices cannot be linked", expected=f"one slice after {last}", found=f"slice {z}"
            )
        if any(i.id is None for i in instances):
            raise FossilError(f"An instance in slice {z} has no id", expected="stored instances")
        last = z
        chain.close(z - max_gap - 1)
        sections = _register(chain, instances, branch_overlap)
        fresh = sections
        nearest, *farther = sorted({s.slice for s in chain.open}, reverse=True) or [z]
        near = [s for s in chain.open if s.slice == nearest]
        fresh = _link_pair(chain, near, fresh, min_overlap)
        for level in farther:
            # A section that goes on in a nearer slice cannot go on beyond it.
            ended = [s for s in chain.open if s.slice == level and not s.continued]
            fresh = _link_pair(chain, ended, fresh, min_overlap, _GAP_IOU)
        _split(chain, near, fresh, branch_overlap)
        _note_merges(chain, near, sections, branch_overlap)
        chain.open.extend(sections)
    chain.close(last + 1)
    return _numbered(chain, min_slices)


def _register(chain: _Chain, instances: Sequence[Instance], branch: float) -> list[_Section]:
    """Add all instances of a slice; its bodies are returned in order of id."""
    bodies = sorted((i for i in instances if i.part is Part.BODY), key=_id)
    for body in bodies:
        chain.add(body)
    for cavity in instances:
        if cavity.part is Part.CAVITY:
            # The noted body, else the one that shares most with it.
            parent = cavity.parent
            if not any(b.id == parent for b in bodies):
                on = intersections([cavity.mask], [b.mask for b in bodies])[0]
                parent = _id(bodies[int(on.argmax())]) if on.any() else None
            chain.parents[_id(cavity)] = parent
    drawn = [b for b in bodies if b.mask.area]
    masks = [b.mask for b in drawn]
    areas = np.array([m.area for m in masks], dtype=np.int64)
    shared = intersections(masks, masks)
    twins = shared >= _TWINS * (areas[:, None] + areas[None, :] - shared)
    # A section is nested in the larger ones of its slice that hold this share of it.
    nested = (shared >= branch * areas[:, None]) & (areas[:, None] < areas[None, :]) & ~twins
    sections = [
        _Section(_id(b), b.slice, b.mask, tuple(_id(drawn[n]) for n in row.nonzero()[0]))
        for b, row in zip(drawn, nested, strict=True)
    ]
    for n, m in np.argwhere(np.triu(twins, 1)).tolist():
        chain.join(sections[n], sections[m])
    return sections


def _id(instance: Instance) -> int:
    return -1 if instance.id is None else instance.id


def _shares(
    before: Sequence[_Section], after: Sequence[_Section]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the shared area (before, after), as share of the smaller section, and the IoU."""
    shared = intersections([s.mask for s in before], [s.mask for s in after])
    rows = np.array([s.mask.area for s in before], dtype=np.float64)[:, None]
    columns = np.array([s.mask.area for s in after], dtype=np.float64)[None, :]
    return shared / np.minimum(rows, columns), shared / (rows + columns - shared)


def _link_pair(
    chain: _Chain,
    before: Sequence[_Section],
    fresh: Sequence[_Section],
    least: float,
    least_iou: float = 0.0,
) -> list[_Section]:
    """Link sections one to one with those of a slice before; return those that go on none."""
    if not before or not fresh:
        return list(fresh)
    share, iou = _shares(before, fresh)
    allowed = (share >= least) & (iou >= least_iou)
    if chain.known:
        agree = [[chain.agree(b, s) for s in fresh] for b in before]
        allowed &= np.array(agree, dtype=np.bool_)
    # The one-to-one choice with the greatest sum of IoU.
    rows, columns = linear_sum_assignment(np.where(allowed, iou, 0.0), maximize=True)
    rival = iou.copy()
    rival[rows, columns] = 0
    rivals = np.maximum(rival.max(axis=1)[rows], rival.max(axis=0)[columns])
    linked = set[int]()
    # Two links may together bring two known specimens into one: the better overlap wins.
    for n in np.argsort(-iou[rows, columns], kind="stable").tolist():
        row, column = int(rows[n]), int(columns[n])
        if not allowed[row, column] or not chain.join(before[row], fresh[column]):
            continue
        before[row].continued = True
        linked.add(column)
        if least_iou:
            chain.note(LinkKind.GAP, before[row], fresh[column])
        elif iou[row, column] < _JUMP_IOU or share[row, column] < _JUMP_SHARE:
            chain.note(LinkKind.JUMP, before[row], fresh[column])
        elif rivals[n] > _RIVAL * iou[row, column]:
            chain.note(LinkKind.RIVAL, before[row], fresh[column])
    return [s for n, s in enumerate(fresh) if n not in linked]


def _split(
    chain: _Chain, before: Sequence[_Section], fresh: Sequence[_Section], least: float
) -> None:
    """Give sections that go on none to the specimen they branch from."""
    # Large ones first, so that a host is linked before what is nested in it.
    fresh = sorted(fresh, key=lambda s: -s.mask.area)
    if not before or not fresh:
        return
    share, _ = _shares(before, fresh)
    for column, section in enumerate(fresh):
        free = np.array([chain.may_join(section, b) for b in before])
        row = int((share[:, column] * free).argmax())
        if free[row] and share[row, column] >= least:
            chain.branch(before[row], section, LinkKind.SPLIT)


def _note_merges(
    chain: _Chain, before: Sequence[_Section], sections: Sequence[_Section], least: float
) -> None:
    """Note what sections that do not go on have grown together with."""
    ended = [s for s in before if not s.continued]
    if not ended or not sections:
        return
    share, _ = _shares(ended, sections)
    for row, section in enumerate(ended):
        free = np.array([chain.may_join(section, s) for s in sections])
        column = int((share[row] * free).argmax())
        if free[column] and share[row, column] >= least:
            section.into = sections[column]


def _numbered(chain: _Chain, min_slices: int) -> LinkResult:
    """Give the specimens numbers from 1, in order of first slice and first id."""
    order = sorted(chain.slices, key=lambda i: (min(chain.slices[i]), i))
    roots = {i: chain.groups[i] for i in order}
    named = {root: name for i, root in roots.items() if (name := chain.specimen(i)) is not None}
    slices: dict[int, set[int]] = {}
    for i, root in roots.items():
        slices.setdefault(root, set()).update(chain.slices[i])
    kept = [r for r, present in slices.items() if len(present) >= min_slices and r not in named]
    numbers = named | {r: n for n, r in enumerate(kept, 1 + max(named.values(), default=0))}
    specimens = {i: numbers.get(root) for i, root in roots.items()}
    for cavity, parent in chain.parents.items():
        specimens[cavity] = None if parent is None else specimens[parent]
    doubts = (
        LinkEvent(kind, z, specimens[before], before, after, pixels)
        for kind, z, before, after, pixels in sorted(chain.doubts, key=lambda doubt: doubt[1])
    )
    return LinkResult(specimens, tuple(doubts))


def merged_identities(
    result: LinkResult, identities: Mapping[int, int | None]
) -> dict[int, tuple[int, ...]]:
    """Return the known identities that a linking put into one specimen.

    Parameters
    ----------
    identities
        Known specimen by instance id, for example those of an imported file.

    Returns
    -------
    dict of the known identities, two or more, by the specimen that holds them
    """
    held: dict[int, set[int]] = {}
    for instance, specimen in result.specimens.items():
        identity = identities.get(instance)
        if specimen is not None and identity is not None:
            held.setdefault(specimen, set()).add(identity)
    return {s: tuple(sorted(ids)) for s, ids in sorted(held.items()) if len(ids) > 1}


def divided_identities(
    result: LinkResult, identities: Mapping[int, int | None]
) -> dict[int, tuple[int, ...]]:
    """Return the specimens, two or more, that a known identity was divided into, by identity."""
    parts: dict[int, set[int]] = {}
    for instance, identity in identities.items():
        specimen = result.specimens.get(instance)
        if specimen is not None and identity is not None:
            parts.setdefault(identity, set()).add(specimen)
    return {i: tuple(sorted(s)) for i, s in sorted(parts.items()) if len(s) > 1}
