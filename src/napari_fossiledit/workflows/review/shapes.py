"""Change the shape of single masks, propose one, say what they are of.

Masks of others keep their pixels, and reviewed masks stay as they are, unless asked otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import Box, Region, check_slice
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.propose import propose as proposed
from napari_fossiledit.masks.propose import propose_at
from napari_fossiledit.masks.split import Point, by_clicks, by_line
from napari_fossiledit.masks.tidy import fill_holes, grow, settled, smooth, without_islands
from napari_fossiledit.params.review import (
    MOST_PIXELS,
    DescribeParams,
    ProposeParams,
    ReshapeParams,
    ShapeParams,
    SplitParams,
    SwapParams,
    Tool,
)
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.annotate.corrections import counted, parse_ids
from napari_fossiledit.workflows.shared.sources import (
    known_class,
    source_or_in_use,
)

SAME_BOX = 0.5
"""IoU of boxes from which on a prediction is taken for what a box was drawn around."""
_FARTHEST = 1_000_000
"""Pixels; no slice is so large."""


@dataclass(frozen=True)
class ShapeResult(Summary):
    """What became of masks of a slice.

    Attributes
    ----------
    slice
        Index of the slice.
    changed
        Ids of masks that changed, cavities among them.
    new
        Ids of masks that are new.
    removed
        Ids of cavities of which nothing is left.
    reviewed
        Ids that were left alone, as they are reviewed.
    area_before, area_after
        Pixels of the masks that were asked for, and of what became of them.
    left_to_others
        Pixels that a tool would have given to them, and that another mask keeps.
    """

    slice: int
    changed: tuple[int, ...]
    new: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()
    reviewed: tuple[int, ...] = ()
    area_before: int = 0
    area_after: int = 0
    left_to_others: int = 0


@dataclass(frozen=True)
class ProposeResult(Summary):
    """An outline that is proposed.

    Attributes
    ----------
    slice
        Index of the slice.
    mask
        What is proposed, without the pixels of other masks.
    id
        Of the mask that was written; None where nothing was.
    prediction
        Id of the prediction that it began with; None where there was none.
    left_to_others
        Pixels that another mask keeps.
    cut
        Ids of cavities that lost what lies outside the mask that was drawn again, or are gone.
    """

    slice: int
    mask: Mask
    id: int | None
    prediction: int | None
    left_to_others: int
    cut: tuple[int, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        y0, x0, y1, x1 = self.mask.box
        shown = {"box": str(Region(x0, x1, y0, y1)), "area": self.mask.area}
        return {k: v for k, v in super().summary().items() if k != "mask"} | shown


def split(
    project_path: Path,
    params: SplitParams,
    *,
    image: NDArray[np.generic] | None = None,
    job: Job = QUIET,
) -> ShapeResult:
    """Split a mask along a line or between two clicks; cavities are split with their fossil.

    The largest part, or that of the first click, keeps the id and the specimen.

    Parameters
    ----------
    image
        The slice (y, x) or (y, x, 3), where it was read already: that takes longer than the rest.

    Raises
    ------
    FossilError
        Where one part would be left, a click lies outside the mask, or it is reviewed.
    """
    line, clicks = _points(params.line), _points(params.clicks)
    if (len(line) > 1) == (len(clicks) == 2) or (line and clicks):
        raise FossilError(
            "It is not clear where to split",
            expected="a line of two or more points x,y;x,y, or two clicks x,y;x,y",
            found=params.line or params.clicks or "neither",
        )
    result = ShapeResult(params.slice, ())

    def change(now: list[Instance]) -> tuple[list[Instance], list[int]]:
        nonlocal result
        item = _unlocked(now, params, [params.id], alone=True)[0]
        parts = (
            by_line(item.mask, line) if line else by_clicks(item.mask, np.asarray(seen), *clicks)
        )
        put, fresh = [replace(item, mask=parts[0], origin=Origin.HUMAN)], -1
        for mask in parts[1:]:
            put.append(replace(item, mask=mask, origin=Origin.HUMAN, id=fresh, specimen=None))
            fresh -= 1
        for cavity in _cavities(now, item):
            pieces = [(part.id, cavity.mask & part.mask) for part in put[: len(parts)]]
            kept = max(pieces, key=lambda piece: piece[1].area)
            for parent, mask in pieces:
                if mask.area:
                    own = mask is kept[1]
                    id_, specimen = (cavity.id, cavity.specimen) if own else (fresh, None)
                    fresh -= 1
                    new = replace(cavity, mask=mask, parent=parent, id=id_, specimen=specimen)
                    put.append(new)
        result = replace(
            result,
            changed=tuple(i.id for i in put if i.id and i.id > 0),
            area_before=item.mask.area,
            area_after=sum(p.area for p in parts),
        )
        return put, []

    with Project.open(project_path) as project:
        project.require_writable()
        z = check_slice(params.slice, project.shape[0])
        # Before the transaction: nothing else can be written meanwhile.
        seen = None if line else project.contents.read(z) if image is None else image
        ids = project.ledger.revise(z, change, what="split a mask")
    return replace(result, new=tuple(id_ for id_ in ids if id_ not in result.changed))


def reshape(project_path: Path, params: ReshapeParams, *, job: Job = QUIET) -> ShapeResult:
    """Fill, smooth, grow or shrink masks, or remove their islands.

    What they gain never lies on another mask. A body and its cavities belong together: a cavity
    stays inside its body.

    Raises
    ------
    FossilError
        Where nothing would be left of a mask, or all are reviewed.
    """
    result = ShapeResult(params.slice, ())

    def change(now: list[Instance]) -> tuple[list[Instance], list[int]]:
        nonlocal result
        items = _unlocked(now, params, parse_ids(params.ids))
        own = {i.id: i for i in now}
        put: dict[int | None, Instance] = {}
        removed, lost, after = list[int](), 0, 0
        for asked in items:
            item = own[asked.id]
            wanted = apply(item.mask)
            mask = settled(item, wanted, list(own.values()))
            if not mask.area:
                raise FossilError(
                    f"Nothing would be left of the mask {item.id}",
                    expected=f"less than the {item.mask.area} pixels it has to be taken",
                    advice="Take a smaller number, or reject the mask.",
                )
            lost += (wanted - mask).area
            after += mask.area
            own[item.id] = put[item.id] = replace(item, mask=mask, origin=Origin.HUMAN)
            for cavity in _cut(own.values(), own[item.id]):
                put[cavity.id] = own[cavity.id] = cavity
                if not cavity.mask.area:
                    removed.append(cavity.id or 0)
        result = replace(
            result,
            changed=tuple(id_ or 0 for id_ in put if id_ not in removed),
            removed=tuple(removed),
            reviewed=tuple(sorted({*parse_ids(params.ids)} - {i.id for i in items})),
            area_before=sum(i.mask.area for i in items),
            area_after=after,
            left_to_others=lost,
        )
        return [i for id_, i in put.items() if id_ not in removed], removed

    with Project.open(project_path) as project:
        project.require_writable()
        z = check_slice(params.slice, project.shape[0])
        pixels = params.um / project.geometry.pixel_size_um if params.um else params.pixels
        if not pixels <= MOST_PIXELS:
            raise FossilError(
                "No mask can be changed so far",
                expected=f"at most {MOST_PIXELS * project.geometry.pixel_size_um:g} um, which are"
                f" {MOST_PIXELS} pixels",
                found=f"{params.um:g} um",
            )
        tools: dict[Tool, Callable[[Mask], Mask]] = {
            Tool.FILL: fill_holes,
            Tool.SMOOTH: lambda mask: smooth(mask, pixels),
            Tool.GROW: lambda mask: grow(mask, pixels),
            Tool.SHRINK: lambda mask: grow(mask, -pixels),
            Tool.ISLANDS: lambda mask: without_islands(mask, params.least_area),
        }
        apply = tools[params.tool]
        project.ledger.revise(z, change, what=f"{params.tool}: {counted(parse_ids(params.ids))}")
    return result


def propose(
    project_path: Path,
    params: ProposeParams,
    *,
    image: NDArray[np.generic] | None = None,
    job: Job = QUIET,
) -> ProposeResult:
    """Propose the outline of the fossil in a box or below a click, and write it where asked.

    It begins with the prediction in the box, where there is one. A click takes the box of the
    prediction below it, or else one of the size that masks of the slice have.

    Parameters
    ----------
    image
        The slice (y, x) or (y, x, 3), where it was read already: that takes longer than the rest.

    Raises
    ------
    FossilError
        Where the box lies outside the slice, nothing in it differs from what is around it, or the
        mask that is to be drawn again is reviewed.
    """
    with Project.open(project_path) as project:
        if params.write:
            project.require_writable()
        z = check_slice(params.slice, project.shape[0])
        own = project.instances(ANNOTATIONS, z)
        old = _unlocked(own, params, [params.id], alone=True)[0] if params.id else None
        predicted, source = _predicted(project, params.source, z)
        box, believed = _box(project, params, old, [*predicted, *own], predicted)
        if believed is not None and believed.id is not None and source:
            (believed,) = project.ledger.instances(source, ids=[believed.id], with_probability=True)
        name = known_class(project, params.class_name)
        seen = project.contents.read(z) if image is None else image
        if params.click and believed is None:
            middle = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
            whole = propose_at(seen, middle, box[2] - box[0])
        else:
            whole = proposed(seen, box, believed or old)
        name = name or (believed.class_name if believed else project.settings.classes[0])
        item = old or Instance(z, name, whole)
        mask = _free(item, whole, own, box)
        id_, cut = None, list[Instance]()
        if params.write:

            def change(now: list[Instance]) -> tuple[list[Instance], list[int]]:
                nonlocal mask, cut
                kept = _unlocked(now, params, [params.id], alone=True)[0] if old else item
                mask = _free(kept, whole, now, box)
                drawn = replace(kept, mask=mask, origin=Origin.HUMAN)
                cut = _cut(now, drawn)
                rest = [cavity for cavity in cut if cavity.mask.area]
                return [drawn, *rest], [c.id or 0 for c in cut if c not in rest]

            words = "draw a mask again" if old else "draw a mask by its box"
            id_ = project.ledger.revise(z, change, what=words)[0]
    lost = (whole - mask).area
    prediction, gone = believed.id if believed else None, tuple(cavity.id or 0 for cavity in cut)
    return ProposeResult(z, mask, id_, prediction, lost, gone)


def describe(project_path: Path, params: DescribeParams, *, job: Job = QUIET) -> ShapeResult:
    """Write class, texture, and whether masks are unsure; cavities have the class of their fossil.

    A mask that gets another class is of no specimen any more: numbers begin anew in each class.

    Raises
    ------
    FossilError
        Where there is nothing to write, no such class, a cavity is to get another class than its
        fossil, or all masks are reviewed.
    """
    unsure = params.unsure.answer
    if not params.class_name and params.texture is None and unsure is None:
        raise FossilError("There is nothing to write", expected="a class, a texture, or unsure")
    with Project.open(project_path) as project:
        project.require_writable()
        z = check_slice(params.slice, project.shape[0])
        name, ledger = known_class(project, params.class_name) or None, project.ledger
        asked = parse_ids(params.ids)
        with ledger.transaction():
            now = ledger.instances(ANNOTATIONS, slices=[z])
            items = _unlocked(now, params, asked, whole=bool(name))
            ids = [i.id or 0 for i in items]
            other = [i for i in items if name and i.class_name != name]
            inside = [str(i.id) for i in other if i.family not in ids]
            if inside:
                raise FossilError(
                    f"Cavities have the class of their fossil: {', '.join(inside)}",
                    expected=f"the fossil around it, to become {name} with it",
                )
            moved = [m.id or 0 for i in other for m in (i, *_cavities(now, i))]
            action = ledger.begin(f"describe {counted(ids)}")
            ledger.describe(ids, unsure=unsure, texture=params.texture, action=action)
            ledger.describe(moved, class_name=name, action=action)
            ledger.set_specimens(ANNOTATIONS, dict.fromkeys(moved), action=action)
    left = tuple(sorted({*asked} - {*ids}))
    return ShapeResult(z, tuple(dict.fromkeys([*ids, *moved])), reviewed=left)


def swap(project_path: Path, params: SwapParams, *, job: Job = QUIET) -> ShapeResult:
    """Give each of two masks of a slice the specimen of the other one; ids stay.

    An id says where a mask came from and what was done to it, the specimen what it is a section of.
    Linking keeps the specimens from then on.

    Raises
    ------
    FossilError
        Where there are not two of one class, they are of one specimen, or one is reviewed.
    """
    ids = parse_ids(params.ids)
    with Project.open(project_path) as project:
        project.require_writable()
        z, ledger = check_slice(params.slice, project.shape[0]), project.ledger
        with ledger.transaction():
            now = ledger.instances(ANNOTATIONS, slices=[z])
            items = _unlocked(now, params, ids, alone=True)
            numbers, kinds = {i.specimen for i in items}, {i.class_name for i in items}
            if len(items) != 2 or len(numbers) != 2 or len(kinds) != 1:
                raise FossilError(
                    "Specimens cannot be swapped",
                    expected="two masks of one class and of different specimens",
                    found=", ".join(
                        f"{i.id} of specimen {i.specimen or 'none'} ({i.class_name})" for i in items
                    ),
                )
            # Who decides about a section of a specimen has seen the rest of it.
            told = {
                i.id: i.specimen
                for i in ledger.numbered(ANNOTATIONS)
                if i.class_name in kinds and i.specimen in numbers
            }
            specimens = {
                member.id or 0: other.specimen
                for item, other in (items, items[::-1])
                for member in (item, *_cavities(now, item))
            }
            action = ledger.begin("swap the specimens of 2 masks")
            ledger.set_specimens(ANNOTATIONS, told | specimens, action=action)
            ledger.set_identified(ANNOTATIONS, True, action)
    return ShapeResult(z, tuple(specimens))


def _unlocked(
    now: Sequence[Instance],
    params: ShapeParams,
    ids: Sequence[int],
    *,
    alone: bool = False,
    whole: bool = False,
) -> list[Instance]:
    """Return the instances of ids that may be changed.

    Parameters
    ----------
    alone
        Whether all of them must be, with their cavities.
    whole
        Whether their cavities change with them.
    """
    there = {i.id: i for i in now}
    missing = [id_ for id_ in ids if id_ not in there]
    if missing or not ids:
        listed = f" {', '.join(map(str, missing))}" if missing else ""
        raise FossilError(
            f"Slice {params.slice} has no mask{listed}" if ids else "No mask is named",
            expected=f"ids among {', '.join(map(str, sorted(filter(None, there)))) or 'none'}",
        )
    items = [there[id_] for id_ in ids]
    families = {i.family for i in now if i.reviewed} if alone or whole else set()
    free = [i for i in items if params.reviewed_too or not (i.reviewed or i.id in families)]
    if not free or (alone and len(free) < len(items)):
        locked = [str(i.id) for i in items if i not in free]
        raise FossilError(
            f"Reviewed masks stay as they are: {', '.join(locked)}",
            expected="masks that nobody has found right yet",
            advice="Take the mark from them first: A in the window, --reviewed-too here.",
        )
    return free


def _cavities(now: Iterable[Instance], item: Instance) -> list[Instance]:
    return [i for i in now if i.parent == item.id and item.id is not None]


def _cut(now: Iterable[Instance], body: Instance) -> list[Instance]:
    """Return the cavities that reach out of a body, without what lies outside it."""
    inside = [(c, c.mask & body.mask) for c in _cavities(now, body)]
    return [replace(c, mask=m, origin=Origin.HUMAN) for c, m in inside if m.area < c.mask.area]


def _predicted(project: Project, source: str, z: int) -> tuple[list[Instance], str]:
    """Return the predicted bodies of a slice and their source; none where nobody has predicted."""
    if source or project.ledger.predictions():
        source = source_or_in_use(project, source)
    found = project.instances(source, z) if source else []
    return [i for i in found if i.part is Part.BODY], source


def _box(
    project: Project,
    params: ProposeParams,
    old: Instance | None,
    every: Sequence[Instance],
    predicted: Sequence[Instance],
) -> tuple[Box, Instance | None]:
    """Return the box that is looked at, and the prediction in it."""
    height, width = project.slice_shape
    if params.click and params.box:
        raise FossilError("It is not clear where to look", expected="a box or a click, not both")
    if params.click:
        y, x = _pixel(params.click, (height, width))
        below = [i for i in predicted if i.mask.crop((y, x, y + 1, x + 1)).any()]
        if below:
            believed = max(below, key=lambda i: i.score)
            return believed.mask.box, believed
        sizes = [i.mask.box for i in every if i.part is Part.BODY]
        if not sizes:
            raise FossilError(
                "It is not known how large a fossil is here",
                expected="a prediction below the click, or other masks in the slice",
                advice="Draw a box around the fossil.",
            )
        half = max(round(float(np.median([max(b[2] - b[0], b[3] - b[1]) for b in sizes])) / 2), 1)
        return (y - half, x - half, y + half, x + half), None
    if params.box:
        rows, columns = Region.parse(params.box).slices((height, width))
        box = (rows.start, columns.start, rows.stop, columns.stop)
        if box[0] >= box[2] or box[1] >= box[3]:
            raise _outside("box", params.box, width, height)
    elif old is not None:
        box = old.mask.box
    else:
        raise FossilError("It is not known where to look", expected="a box or a click")
    best = max(predicted, key=lambda i: box_iou(i.mask.box, box), default=None)
    return box, best if best is not None and box_iou(best.mask.box, box) >= SAME_BOX else None


def _pixel(text: str, shape: tuple[int, int]) -> tuple[int, int]:
    """Read a click as the pixel (y, x) of a slice."""
    points = _points(text)
    if len(points) != 1:
        raise FossilError("The click cannot be read", expected="one place x,y", found=text)
    row, column = (math.floor(v) for v in points[0])
    if not (0 <= row < shape[0] and 0 <= column < shape[1]):
        raise _outside("click", text, shape[1], shape[0])
    return row, column


def _outside(what: str, text: str, width: int, height: int) -> FossilError:
    return FossilError(
        f"The {what} lies outside the slice",
        expected=f"within {width} x {height} pixels",
        found=text,
    )


def box_iou(a: Box, b: Box) -> float:
    """Return the IoU of two boxes."""
    rows, columns = (max(min(a[k + 2], b[k + 2]) - max(a[k], b[k]), 0) for k in (0, 1))
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return rows * columns / max(total - rows * columns, 1)


def _free(item: Instance, whole: Mask, now: Sequence[Instance], box: Box) -> Mask:
    """Return what a proposal leaves to others of the slice."""
    # Drawn anew, it has no pixel yet that it may keep.
    mask = settled(replace(item, mask=Mask.empty(whole.shape)), whole, now)
    if not mask.area:
        raise FossilError(
            "There is nothing to propose",
            expected="something in the box that differs from what is around it",
            found="the mask of another fossil" if whole.area else str(Region(*_xy(box))),
            advice="Draw the box close around the fossil.",
        )
    return mask


def _xy(box: Box) -> tuple[int, int, int, int]:
    return box[1], box[3], box[0], box[2]


def _points(text: str) -> list[Point]:
    """Read ``"x,y;x,y"`` as points (y, x)."""
    try:
        pairs = [tuple(map(float, part.split(","))) for part in text.split(";") if part.strip()]
        if not all(abs(value) <= _FARTHEST for pair in pairs for value in pair):
            raise ValueError(text)
        return [(y, x) for x, y in pairs]
    except ValueError as error:
        raise FossilError(
            "Points cannot be read", expected="x,y;x,y in pixels", found=repr(text)
        ) from error
