"""Traced slices read from COCO files: polygons and run lengths, several slices in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from pycocotools import mask as coco

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import (
    LARGEST_SPECIMEN,
    NameIndex,
    ProblemList,
    Target,
    TracedSlice,
    by_order,
    nested,
    size_text,
)
from napari_fossiledit.files import read_json
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.rle import run_lengths

Entry = Mapping[str, Any]

_NAMES_IN_MESSAGE = 4


class CocoFile(ProblemList):
    """A COCO file as traced slices of a stack (see `TracingFile`).

    Parameters
    ----------
    path
        The file.
    target
        The stack. Images are matched by file name (see `NameIndex`), by the fields ``slice`` or
        ``slice_index``, or, where nothing matches, by `Target.slices` in order.
    class_name
        Read only this class. Where the file has a single category of another name, or none,
        its instances get this class.

    Raises
    ------
    FossilError
        Where the file is no COCO file, or none of its images is a slice of the stack. What is
        wrong with single images and annotations is listed in `problems` instead.
    """

    def __init__(self, path: Path, target: Target, class_name: str = "") -> None:
        super().__init__(path)
        self._shape = target.shape
        content = read_json(path, "a COCO annotation file")
        images, annotations = (entries(path, content, key) for key in ("images", "annotations"))
        categories = entries(path, content, "categories", needed=False)
        self._classes = _Classes(self, categories, class_name)
        self._images = _find_images(self, images, annotations, target)
        self._bodies, self._anonymous = Counter[str](), Counter[str]()

    @property
    def count(self) -> int:
        """Number of slices with annotations or with a traced area."""
        return len(self._images)

    @property
    def identified(self) -> bool:
        """True where every body has a specimen, classes without any (such as the rock) apart."""
        numbered = [c for c in self._bodies if self._anonymous[c] < self._bodies[c]]
        return bool(numbered) and not any(self._anonymous[c] for c in numbered)

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time.

        Slices with annotations none of which can be read are left out.
        """
        for image in self._images:
            before = len(self.problems)
            read = [self._read(image.z, index, entry) for index, entry in image.annotations]
            instances = _with_parents([pair for pair in read if pair is not None])
            if not instances and len(self.problems) > before:
                continue
            bodies = [i for i in instances if i.part is Part.BODY]
            self._bodies.update(i.class_name for i in bodies)
            self._anonymous.update(i.class_name for i in bodies if i.specimen is None)
            traced = image.entry.get("traced", bool(image.annotations))
            area = None
            if isinstance(traced, dict):
                try:
                    area = read_segmentation(traced, self._shape)[0]
                except FossilError as error:
                    self.leave_out(f"the traced area of slice {image.z}", error)
                    area = Mask.empty(self._shape)
            yield TracedSlice(image.z, instances, bool(traced), area)

    def _read(self, z: int, index: int, entry: Entry) -> tuple[Entry, Instance] | None:
        """Read one annotation; None where it is broken or of a class that is not read."""
        where = _annotation_text(index, entry)
        try:
            name = self._classes.of(entry)
            if name is None:
                return None
            mask, notes = read_segmentation(entry.get("segmentation"), self._shape)
        except FossilError as error:
            self.leave_out(where, error)
            return None
        for note in notes:
            self.leave_out(where, note)
        attributes = _attributes(entry)
        score: Any = entry.get("score")
        # Where this program and common tracing tools write which individual it is.
        places = (
            (attributes, "specimen"),
            (attributes, "track_id"),
            (entry, "track_id"),
            (entry, "specimen"),
        )
        numbers = (_whole_number(holder.get(key)) for holder, key in places)
        return entry, Instance(
            slice=z,
            class_name=name,
            mask=mask,
            score=float(score) if type(score) in (int, float) and 0 <= score <= 1 else 1.0,
            part=Part.CAVITY if attributes.get("part") == Part.CAVITY else Part.BODY,
            texture=texture if _is_word(texture := attributes.get("texture")) else "",
            unsure=entry.get("iscrowd") == 1
            or attributes.get("confidence") == "unsure"
            or attributes.get("unsure") is True,
            origin=Origin.IMPORTED,
            specimen=next((n for n in numbers if 0 <= n <= LARGEST_SPECIMEN), None),
            id=-1 - index,
        )


def entries(path: Path, content: Any, key: str, *, needed: bool = True) -> list[Any]:
    """Return a list of a COCO file.

    Raises
    ------
    FossilError
        Where `content` has no such list although it is needed.
    """
    value = content.get(key, None if needed else []) if isinstance(content, dict) else None
    if isinstance(value, list):
        return value
    what = "nothing" if value is None else type(value).__name__
    raise FossilError(f"{path} is no COCO annotation file", expected=f"a list {key!r}", found=what)


def _attributes(entry: Entry) -> dict[str, Any]:
    """Return the free attributes of an annotation, none where there are none."""
    attributes = entry.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _with_parents(read: Sequence[tuple[Entry, Instance]]) -> list[Instance]:
    """Give cavities the provisional id of the body they lie in."""
    ids = {repr(entry.get("id")): item.id for entry, item in read if item.part is Part.BODY}
    instances = [
        replace(item, parent=ids.get(repr(_attributes(entry).get("parent"))))
        if item.part is Part.CAVITY
        else item
        for entry, item in read
    ]
    return nested(instances, [item for item in instances if item.part is Part.BODY])


def _whole_number(value: Any) -> int:
    """Return `value` where it is a whole number, else -1; JSON's ``true`` is none."""
    return value if type(value) is int else -1


def _is_word(value: Any) -> TypeGuard[str]:
    """Return whether a text can be stored and shown: JSON also has halves of characters."""
    return isinstance(value, str) and value.isprintable() and value != ""


# --------------------------------------------------------------- classes and images


class _Classes:
    """Classes of the annotations of a file.

    Parameters
    ----------
    file
        Collects the problems.
    categories
        Its entries ``categories``.
    class_name
        Read only this class; where there is one category of another name, or none, assign it.
    """

    def __init__(self, file: ProblemList, categories: Sequence[Any], class_name: str) -> None:
        self._names: dict[int, str] = {}
        for n, entry in enumerate(categories):
            name = entry.get("name") if isinstance(entry, dict) else None
            if _is_word(name) and type(entry.get("id")) is int:
                self._names[entry["id"]] = name
            else:
                file.leave_out(f"category {n}", "it has no name or no id")
        names = sorted(set(self._names.values()))
        self._class_name = class_name
        self._assigned = bool(class_name) and class_name not in names
        if self._assigned and len(names) > 1:
            raise FossilError(
                f"{file.path} has no class {class_name!r}", expected=f"one of {', '.join(names)}"
            )

    def of(self, entry: Entry) -> str | None:
        """Return the class of an annotation, None where it is not the one to read.

        Raises
        ------
        FossilError
            Where its category is not in the file.
        """
        if self._assigned:
            return self._class_name
        name = self._names.get(_whole_number(entry.get("category_id")))
        if name is None:
            raise FossilError(
                "The category of the annotation is missing in the file",
                expected=f"one of {sorted(self._names)}",
                found=entry.get("category_id"),
            )
        return name if self._class_name in ("", name) else None


@dataclass(frozen=True)
class _Image:
    """An image of the file that is slice `z`, with position and entry of its annotations."""

    z: int
    entry: Entry
    annotations: tuple[tuple[int, Entry], ...]


def _find_images(
    file: ProblemList, images: Sequence[Any], annotations: Sequence[Any], target: Target
) -> list[_Image]:
    """Match images to slices and give them their annotations, in stack order."""
    slices = _right_sized(file, images, _matched(file, images, target), target)
    # Compared as text: some tools write numbers as ids of images, some write text.
    places = {repr(e.get("id")): n for n, e in enumerate(images) if isinstance(e, dict)}
    grouped: dict[int, list[tuple[int, Entry]]] = {n: [] for n in slices}
    for index, entry in enumerate(annotations):
        is_entry = isinstance(entry, dict)
        n = places.get(repr(entry.get("image_id"))) if is_entry else None
        if n is None:
            reason = "its image is not in the file" if is_entry else "it is no annotation"
            file.leave_out(_annotation_text(index, entry), reason)
        elif n in grouped:
            grouped[n].append((index, entry))
    kept = [_Image(z, images[n], tuple(grouped[n])) for n, z in slices.items()]
    return sorted((i for i in kept if i.annotations or "traced" in i.entry), key=lambda i: i.z)


def _matched(file: ProblemList, images: Sequence[Any], target: Target) -> dict[int, int]:
    """Return the slices of images by their positions in the file, chosen slices only."""
    index, count = NameIndex(target.names), len(target.names)
    slices: dict[int, int] = {}
    for n, entry in enumerate(images):
        if isinstance(entry, dict):
            name = entry.get("file_name")
            candidates = [
                index.find(name) if isinstance(name, str) else None,
                *(_whole_number(entry.get(key)) for key in ("slice", "slice_index")),
            ]
            z = next((z for z in candidates if z is not None and 0 <= z < count), None)
            if z is not None and z not in slices.values():
                slices[n] = z
    if not slices and target.slices is not None and images:
        ordered = enumerate(by_order(len(images), target, str(file.path)))
        slices = {n: z for n, z in ordered if isinstance(images[n], dict)}
    elif not slices:
        raise FossilError(
            f"No image of {file.path} is a slice of the stack",
            expected=_listed(target.names),
            found=_listed([_image_text(n, e) for n, e in enumerate(images)]),
            advice="Choose the slices they belong to with --slices, one for each image.",
        )
    for n in range(len(images)):
        if n not in slices:
            file.leave_out(_image_text(n, images[n]), "it is no slice of the stack, or one twice")
    return {n: z for n, z in slices.items() if target.slices is None or z in target.slices}


def _right_sized(
    file: ProblemList, images: Sequence[Any], slices: dict[int, int], target: Target
) -> dict[int, int]:
    """Leave out images of another size than the slices."""
    wrong = {}
    for n in slices:
        size = (images[n].get("height"), images[n].get("width"))
        if size not in (target.shape, (None, None)):
            wrong[n] = size_text(size)
            reason = f"it is of another size; expected {target.size}, found {wrong[n]}"
            file.leave_out(_image_text(n, images[n]), reason)
    if wrong and len(wrong) == len(slices):
        raise FossilError(
            f"The images of {file.path} are of another size than the slices",
            expected=target.size,
            found=next(iter(wrong.values())),
        )
    return {n: z for n, z in slices.items() if n not in wrong}


def _annotation_text(index: int, entry: Any) -> str:
    number = entry.get("id") if isinstance(entry, dict) else None
    return f"annotation at position {index}" if number is None else f"annotation {number}"


def _image_text(n: int, entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return f"image {n}" if name is None else f"image {name}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NAMES_IN_MESSAGE
    more = f" and {rest} more" if rest > 0 else ""
    return (", ".join(names[:_NAMES_IN_MESSAGE]) + more) or "no image"


# --------------------------------------------------------------------------- masks


def read_segmentation(code: Any, shape: tuple[int, int]) -> tuple[Mask, list[str]]:
    """Decode a mask: compressed or uncompressed run lengths, or polygons.

    Parameters
    ----------
    code
        The value of ``segmentation``.
    shape
        Rows and columns (y, x) of the slice.

    Returns
    -------
    mask, notes
        What of a polygon lies outside the slice is cut off. Notes name polygons that were left
        out of an otherwise good mask.

    Raises
    ------
    FossilError
        Where nothing is left, or the code is broken or of another size.
    """
    notes: list[str] = []
    if isinstance(code, dict):
        mask = _from_runs(code, shape)
    elif isinstance(code, list):
        mask, notes = _from_polygons(code, shape)
    else:
        raise FossilError(
            "The segmentation cannot be read",
            expected="polygons or run lengths",
            found=type(code).__name__,
        )
    if mask.area == 0:
        raise FossilError("The mask has no pixel in the slice")
    return mask, notes


def _from_runs(code: dict[str, Any], shape: tuple[int, int]) -> Mask:
    size, counts = code.get("size"), code.get("counts")
    if size != list(shape):
        raise FossilError(
            "The run-length code is of another size",
            expected=size_text(shape),
            found=size_text(tuple(size))
            if isinstance(size, list) and len(size) == 2
            else repr(size)[:60],
        )
    if isinstance(counts, str):
        return Mask.from_counts(run_lengths(counts.encode(errors="surrogatepass")).tolist(), shape)
    if isinstance(counts, list) and all(type(c) is int for c in counts):
        return Mask.from_counts(counts, shape)
    raise FossilError(
        "The run-length code cannot be read",
        expected="counts as text or as whole numbers",
        found=type(counts).__name__,
    )


def _from_polygons(code: list[Any], shape: tuple[int, int]) -> tuple[Mask, list[str]]:
    """Rasterise polygons as COCO means them.

    Pixel 0 reaches from 0 to 1, and several polygons are several parts of one instance.
    """
    parts = [code] if code and not isinstance(code[0], list) else code
    faults = [_fault(part, shape) for part in parts]
    good = [part for part, fault in zip(parts, faults, strict=True) if not fault]
    notes = [f"polygon {n} {fault}" for n, fault in enumerate(faults, 1) if fault]
    if not good:
        raise FossilError("; ".join(notes) or "There is no polygon", expected="a closed outline")
    merged = coco.merge(coco.frPyObjects(good, *shape))
    return Mask(shape, merged["counts"]), notes


def _fault(part: Any, shape: tuple[int, int]) -> str:
    """Return what is wrong with one polygon, empty where nothing is."""
    if not isinstance(part, list) or not all(type(v) in (int, float) for v in part):
        return "is no list of numbers"
    if len(part) % 2 or len(part) < 6:
        return f"has {len(part) / 2:g} points, expected three or more"
    # pycocotools holds points along each edge, five a pixel: an edge to far away takes all memory.
    reach = 2 * max(shape)
    if not all(-reach <= v <= 2 * reach for v in part):
        return "reaches far beyond the slice"
    return "" if np.ptp(part[::2]) and np.ptp(part[1::2]) else "encloses nothing"
