"""Images of COCO files: which slices they are, and which annotations belong to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco_masks import polygons, scaled, scaled_code
from napari_fossiledit.exchange.tracings.tracing_file import (
    ProblemList,
    Target,
    by_order,
    listed,
    size_text,
)
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.stacks.listing import in_order

Entry = Mapping[str, Any]
Grouped = dict[int, list[tuple[int, dict[str, Any]]]]

_SHOWN = 4
_WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,17})(\.0+)?")


def number_of(value: Any) -> int | str | None:
    """Return an id or number as tools mean it: 7, 7.0, "7" and "7.0" are the same.

    Text that is no whole number stays text; None where the value is neither ("007" is text,
    JSON's ``true`` is nothing).
    """
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value.strip())
        return int(found[1]) if found else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparing leaves NaN out, too.
    return int(value) if abs(value) < 2**63 and value == int(value) else None


def whole(value: Any) -> int:
    """Return a whole number, -1 where `value` is none (see `number_of`)."""
    number = number_of(value)
    return number if isinstance(number, int) else -1


@dataclass(frozen=True)
class SliceEntries:
    """What a file has of slice `z`: its images, and position and entry of its annotations."""

    z: int
    images: tuple[Entry, ...]
    annotations: tuple[tuple[int, dict[str, Any]], ...]


def find_images(
    file: ProblemList, images: Sequence[Any], annotations: Sequence[Any], target: Target
) -> list[SliceEntries]:
    """Match images to slices and give them their annotations, in stack order.

    Raises
    ------
    FossilError
        Where no image is a slice, all are of another size, or an id that annotations use is that
        of several images.
    """
    matched, unmatched = _matched(file, images, target)
    grouped = _grouped(file, images, annotations, matched)
    for n, reason in unmatched.items():
        _leave_out(file, images, grouped, n, reason)
    chosen = {n: z for n, z in matched.items() if target.slices is None or z in target.slices}
    sized = _right_sized(file, images, chosen, grouped, target)
    by_slice: dict[int, list[int]] = {}
    for n, z in sized.items():
        by_slice.setdefault(z, []).append(n)
    found, repeated = [], []
    for z, own in sorted(by_slice.items()):
        entries = tuple(pair for n in own for pair in grouped.get(n, []))
        repeated += own[1:2]
        if entries or any("traced" in images[n] for n in own):
            found.append(SliceEntries(z, tuple(images[n] for n in own), entries))
    if repeated:
        name = _image_text(repeated[0], images[repeated[0]])
        file.assume(f"images listed several times taken for one: {len(repeated)}, e.g. {name}")
    return found


def _leave_out(
    file: ProblemList, images: Sequence[Any], grouped: Grouped, n: int, reason: str
) -> None:
    """Note that an image cannot be used, and its annotations with it."""
    count = len(grouped.get(n, []))
    more = f" (annotations left out with it: {count})" if count else ""
    file.leave_out(_image_text(n, images[n]), reason + more)


def _matched(
    file: ProblemList, images: Sequence[Any], target: Target
) -> tuple[dict[int, int], dict[int, str]]:
    """Return the slices of images, and why others have none, by their positions in the file."""
    count = len(target.names)
    names = [e.get("file_name") if isinstance(e, dict) else None for e in images]
    by_name = file.match([n if isinstance(n, str) else None for n in names], target)
    told = _told_slices(images, count)
    taken = Counter(told.values()) + Counter(set(by_name.slices.values()))
    free = {n: z for n, z in told.items() if n not in by_name.slices and taken[z] == 1}
    slices = by_name.slices | free
    if slices:
        target.require_rising(f"the images of {file.path} say which slice they are")
    if not slices and target.slices is not None and images:
        order = _ordered(file, names)
        placed = by_order(len(images), target, str(file.path))
        slices = {n: z for n, z in zip(order, placed, strict=True) if isinstance(images[n], dict)}
    elif not slices and by_name.clashes:
        found = [_image_text(n, images[n]) for n in by_name.clashes]
        raise FossilError(
            f"Several images of {file.path} fit the same slice, so that nobody can tell which is "
            "meant",
            expected="an image for each slice",
            found=listed(found, _SHOWN),
            advice="Import a file for each folder of images, or choose the slices with --slices, "
            "one for each image.",
        )
    elif not slices:
        raise FossilError(
            f"No image of {file.path} is a slice of the stack",
            expected=listed(target.names, _SHOWN),
            found=listed([_image_text(n, e) for n, e in enumerate(images)], _SHOWN) or "no image",
            advice="Choose the slices they belong to with --slices, one for each image.",
        )
    if free:
        file.assume(f"images matched by the number of the slice they tell: {len(free)}")
    if other := [n for n in by_name.slices if told.get(n, slices[n]) != slices[n]]:
        n = other[0]
        file.assume(
            f"images that tell another slice than their names, which were followed: {len(other)}, "
            f"e.g. {names[n]} slice {told[n]} instead of {slices[n]}"
        )
    unmatched = {}
    for n in set(range(len(images))) - slices.keys():
        z = by_name.clashes.get(n, told.get(n))
        clash = f"another image or several fit slice {z}"
        unmatched[n] = "it is no slice of the stack" if z is None else clash
    return slices, unmatched


def _told_slices(images: Sequence[Any], count: int) -> dict[int, int]:
    """Return the slices that images tell themselves, by their positions."""
    told = {}
    for n, entry in enumerate(images):
        if isinstance(entry, dict):
            numbers = (whole(entry.get(key)) for key in ("slice", "slice_index"))
            if (z := next((z for z in numbers if 0 <= z < count), None)) is not None:
                told[n] = z
    return told


def _ordered(file: ProblemList, names: Sequence[Any]) -> list[int]:
    """Return the positions of images in the order in which they are laid on slices."""
    texts = [name for name in names if isinstance(name, str)]
    if len(set(texts)) < len(names):
        file.assume("images laid on the chosen slices in the order of the file")
        return list(range(len(names)))
    order = [names.index(name) for name in in_order(texts)]
    file.assume(
        f"images laid on the chosen slices in the order of their names, from {names[order[0]]} to "
        f"{names[order[-1]]}"
    )
    return order


def _grouped(
    file: ProblemList, images: Sequence[Any], annotations: Sequence[Any], slices: dict[int, int]
) -> Grouped:
    """Give annotations to images by their ids; those of images that share one to the first."""
    places: dict[int | str, list[int]] = {}
    for n, entry in enumerate(images):
        key = number_of(entry.get("id")) if isinstance(entry, dict) else None
        if key is not None:
            places.setdefault(key, []).append(n)
    grouped: Grouped = {}
    for index, entry in enumerate(annotations):
        key = number_of(entry.get("image_id")) if isinstance(entry, dict) else None
        found = [] if key is None else places.get(key, [])
        if not found:
            reason = (
                "its image is not in the file" if isinstance(entry, dict) else "it is no annotation"
            )
            file.leave_out(annotation_text(index, entry), reason)
        elif len(found) > 1 and len({slices.get(n, -1 - n) for n in found}) > 1:
            raise FossilError(
                f"{file.path} gives the id {key} to several images, so that nobody can tell which "
                "of them an annotation belongs to",
                expected="an id for each image",
                found=listed([_image_text(n, images[n]) for n in found], _SHOWN),
                advice="Files that were joined have to be numbered anew: export them once more, "
                "or import one file after the other.",
            )
        else:
            grouped.setdefault(found[0], []).append((index, entry))
    return grouped


def _right_sized(
    file: ProblemList,
    images: Sequence[Any],
    slices: dict[int, int],
    grouped: Grouped,
    target: Target,
) -> dict[int, int]:
    """Leave out images of another size than the slices, unless their annotations prove it wrong."""
    wrong, corrected, unknown, other = {}, [], [], []
    for n, z in slices.items():
        size = (whole(images[n].get("height")), whole(images[n].get("width")))
        if size == target.shape:
            continue
        if min(size) <= 0:
            unknown.append(z)
        elif _fits_the_slice([e for _, e in grouped.get(n, [])], size, target.shape):
            corrected.append(z)
        elif target.scales(size):
            other.append(z)
            pairs = grouped.get(n, [])
            grouped[n] = [(index, scaled(e, size, target.shape)) for index, e in pairs]
            if isinstance(area := images[n].get("traced"), dict):
                images[n]["traced"] = scaled_code(area, size, target.shape)
        else:
            wrong[n] = size_text(size)
            turned = size == target.shape[::-1]
            reason = f"it is of another size; expected {target.size}, found {wrong[n]}"
            reason += ", turned by a quarter" if turned else ""
            _leave_out(file, images, grouped, n, reason)
    if wrong and len(wrong) == len(slices):
        turned = set(wrong.values()) == {size_text(target.shape[::-1])}
        raise FossilError(
            f"The images of {file.path} are of another size than the slices",
            expected=target.size,
            found=next(iter(wrong.values())),
            advice="They were traced turned by a quarter: some programs follow the EXIF "
            "orientation of photographs, others do not. Save the photographs upright, trace those."
            if turned
            else "Trace the photographs in the size that the stack has. What was traced on smaller"
            " copies of them can be scaled with --scale.",
        )
    if other:
        file.assume(
            f"drawn on copies of the photographs of another size, and scaled to {target.size}: "
            f"slices {format_slices(other)}"
        )
    if unknown:
        file.assume(
            f"the size of the images that the file does not tell: slices {format_slices(unknown)}"
        )
    if corrected:
        file.assume(
            "the size of the images that the file tells is wrong, as their annotations fit the "
            f"photographs: slices {format_slices(corrected)}"
        )
    return {n: z for n, z in slices.items() if n not in wrong}


def _fits_the_slice(
    annotations: Sequence[Entry], stated: tuple[int, int], shape: tuple[int, int]
) -> bool:
    """Return whether annotations are of the size of the slice and cannot be of the stated one."""
    codes = [entry.get("segmentation") for entry in annotations]
    runs = [code.get("size") for code in codes if isinstance(code, dict)]
    if runs:
        return all(size == list(shape) for size in runs)
    parts = [p for code in codes if isinstance(code, list) for p in polygons(code)]
    numbers = [p for p in parts if isinstance(p, list) and all(type(v) in (int, float) for v in p)]
    x = max((v for part in numbers for v in part[::2]), default=0)
    y = max((v for part in numbers for v in part[1::2]), default=0)
    outside = x > stated[1] + 1 or y > stated[0] + 1
    return outside and x <= shape[1] + 1 and y <= shape[0] + 1


def annotation_text(index: int, entry: Any) -> str:
    """Return what an annotation is called in messages."""
    number = entry.get("id") if isinstance(entry, dict) else None
    return f"annotation at position {index}" if number is None else f"annotation {number}"


def _image_text(n: int, entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return f"image {n}" if name is None else f"image {name}"
