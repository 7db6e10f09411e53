"""From sections to specimens: instances are linked through z by overlap.

Between two slices each section continues at most one section before it, chosen by
`scipy.optimize.linear_sum_assignment` so that the sum of the IoU is greatest. Archaeocyaths branch
and grow together, so what that leaves over may still belong to a neighbour:

* a section without a predecessor that lies in a section before it is a branch of that specimen
  (a *split*);
* a section without a successor that lies in a section after it has grown together with that
  specimen (a *merge*).

"Lies in" means at least `branch_overlap` of the smaller of the two. Both are listed as events, so
that they can be looked at. A section that lies in another one of its own slice is nested: it is
neither a branch of that specimen nor grown together with it. A specimen may be missing in up to
`max_gap` slices; nearer slices are linked first. Cavities follow the body they lie in.

Where it is known which specimen some sections belong to, they stay what they are: sections of one
specimen are linked however far apart they are, and those of two never are.
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
from napari_fossiledit.summary import Summary

BRANCH_OVERLAP = 0.5
"""Share of the smaller section that must lie in the larger one for a split or a merge."""


class LinkKind(StrEnum):
    """Links that are not one section after the other."""

    SPLIT = "split"
    MERGE = "merge"


@dataclass(frozen=True)
class LinkEvent(Summary):
    """Two sections of one specimen that a one-to-one linking would have kept apart.

    Attributes
    ----------
    kind
        A split (the specimen branches) or a merge (two specimens grow together).
    slice
        The later of the two slices.
    specimen
        The specimen after linking.
    before, after
        Instance ids of the section before and after.
    """

    kind: LinkKind
    slice: int
    specimen: int | None
    before: int
    after: int


@dataclass(frozen=True)
class LinkResult:
    """Which specimen each instance belongs to.

    Attributes
    ----------
    specimens
        Specimen by instance id, numbered from 1 in order of the first slice; None where the
        specimen is in fewer slices than asked for.
    events
        Splits and merges, in stack order.
    """

    specimens: dict[int, int | None]
    events: tuple[LinkEvent, ...] = ()

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


@dataclass
class _Chain:
    """Links made so far; only the sections of the last slices are kept."""

    groups: DisjointSet = field(default_factory=DisjointSet)
    slices: dict[int, set[int]] = field(default_factory=dict)
    parents: dict[int, int | None] = field(default_factory=dict)
    events: list[tuple[LinkKind, int, int, int]] = field(default_factory=list)
    open: list[_Section] = field(default_factory=list)
    known: Mapping[int, int] = field(default_factory=dict)
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
        return self.named.get(self.groups[id_])

    def agree(self, before: _Section, after: _Section) -> bool:
        """Return whether two sections are not known to be of two specimens."""
        one, other = self.specimen(before.id), self.specimen(after.id)
        return one is None or other is None or one == other

    def join(self, before: _Section, after: _Section, kind: LinkKind | None = None) -> bool:
        """Put two sections into one specimen, unless they are known to be of two.

        Parameters
        ----------
        kind
            Lists the link as an event, where the sections were apart.
        """
        if not self.agree(before, after):
            return False
        names = (self.specimen(before.id), self.specimen(after.id))
        apart = self.groups.merge(before.id, after.id)
        for name in names:
            if name is not None:
                self.named[self.groups[after.id]] = name
        before.continued = True
        if kind is not None and apart:
            self.events.append((kind, after.slice, before.id, after.id))
        return True

    def may_join(self, section: _Section, other: _Section) -> bool:
        """Return whether a section may be of the specimen of another, in which it is not nested."""
        nested = any(self.groups.connected(host, other.id) for host in section.hosts)
        return not nested and self.agree(section, other)


def link(
    slices: Iterable[Sequence[Instance]],
    *,
    min_overlap: float = 0.25,
    max_gap: int = 1,
    min_slices: int = 1,
    branch_overlap: float = BRANCH_OVERLAP,
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
    known
        Specimens that are known, by instance id: they keep their numbers, whatever `min_slices`
        is; others are numbered above them.

    Raises
    ------
    FossilError
        Where an instance has no id, or the slices do not rise.
    """
    chain = _Chain(known=known or {})
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
        sections = _register(chain, instances, branch_overlap)
        # Older sections are let go: memory does not grow with the stack.
        chain.open = [s for s in chain.open if z - s.slice <= max_gap + 1]
        fresh = sections
        # Nearer slices first; a section that goes on in one of them cannot go on beyond a gap.
        for back in range(1, max_gap + 2):
            before = [
                s for s in chain.open if z - s.slice == back and (back == 1 or not s.continued)
            ]
            fresh = _link_pair(chain, before, sections, fresh, (min_overlap, branch_overlap))
        chain.open.extend(sections)
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
    # A section is nested in the larger ones of its slice that hold this share of it.
    nested = (shared >= branch * areas[:, None]) & (areas[:, None] < areas[None, :])
    return [
        _Section(_id(b), b.slice, b.mask, tuple(_id(drawn[n]) for n in np.flatnonzero(row)))
        for b, row in zip(drawn, nested, strict=True)
    ]


def _id(instance: Instance) -> int:
    return -1 if instance.id is None else instance.id


def _link_pair(
    chain: _Chain,
    before: Sequence[_Section],
    sections: Sequence[_Section],
    fresh: Sequence[_Section],
    thresholds: tuple[float, float],
) -> list[_Section]:
    """Link `sections` with those of one slice before; return those still without predecessor."""
    if not before or not sections:
        return list(fresh)
    least, branch = thresholds
    shared = intersections([s.mask for s in before], [s.mask for s in sections])
    rows = np.array([s.mask.area for s in before], dtype=np.float64)[:, None]
    columns = np.array([s.mask.area for s in sections], dtype=np.float64)[None, :]
    share, iou = shared / np.minimum(rows, columns), shared / (rows + columns - shared)
    new = [n for n, s in enumerate(sections) if s in fresh]
    allowed = share[:, new] >= least
    if chain.known:
        agree = [[chain.agree(b, sections[n]) for n in new] for b in before]
        allowed &= np.array(agree, dtype=np.bool_)
    # The one-to-one choice with the greatest sum of IoU.
    chosen = linear_sum_assignment(np.where(allowed, iou[:, new], 0.0), maximize=True)
    pairs = {
        new[column]: row
        for row, column in zip(*(side.tolist() for side in chosen), strict=True)
        if allowed[row, column]
    }
    # Two links may together bring two known specimens into one: the better overlap wins.
    best = sorted(pairs.items(), key=lambda pair: -iou[pair[1], pair[0]])
    linked = {column for column, row in best if chain.join(before[row], sections[column])}
    rest = [n for n in new if n not in linked]
    branches = _branch(chain, before, sections, rest, share, branch)
    _fuse(chain, before, sections, share, branch)
    return [sections[n] for n in rest if n not in branches]


def _branch(
    chain: _Chain,
    before: Sequence[_Section],
    sections: Sequence[_Section],
    columns: Sequence[int],
    share: NDArray[np.float64],
    least: float,
) -> set[int]:
    """Give sections without a predecessor to the specimen they branch from; return these."""
    joined = set[int]()
    # Large ones first, so that a host is linked before what is nested in it.
    for column in sorted(columns, key=lambda n: -sections[n].mask.area):
        section = sections[column]
        free = np.array([chain.may_join(section, b) for b in before])
        row = int((share[:, column] * free).argmax())
        if free[row] and share[row, column] >= least:
            chain.join(before[row], section, LinkKind.SPLIT)
            joined.add(column)
    return joined


def _fuse(
    chain: _Chain,
    before: Sequence[_Section],
    sections: Sequence[_Section],
    share: NDArray[np.float64],
    least: float,
) -> None:
    """Give sections without a successor to the specimen they grow together with."""
    for row, section in enumerate(before):
        free = np.array([chain.may_join(section, s) for s in sections])
        column = int((share[row] * free).argmax())
        if not section.continued and free[column] and share[row, column] >= least:
            chain.join(section, sections[column], LinkKind.MERGE)


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
    events = (LinkEvent(k, z, specimens[a], a, b) for k, z, a, b in chain.events)
    return LinkResult(specimens, tuple(events))


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
