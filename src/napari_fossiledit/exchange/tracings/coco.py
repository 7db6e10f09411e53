"""Traced slices read from COCO files, and from Label Studio's tasks as if they were one."""

from __future__ import annotations

import shlex
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco_images import (
    Entry,
    SliceEntries,
    annotation_text,
    find_images,
    number_of,
    whole,
)
from napari_fossiledit.exchange.tracings.coco_masks import Box, place_of, read_segmentation
from napari_fossiledit.exchange.tracings.coco_writer import ACCEPTED
from napari_fossiledit.exchange.tracings.label_studio import are_tasks, as_coco
from napari_fossiledit.exchange.tracings.tracing_file import (
    LARGEST_SPECIMEN,
    ProblemList,
    Target,
    TracedSlice,
    nested,
)
from napari_fossiledit.files import explained, made_plain, read_json
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.rle import overlap
from napari_fossiledit.stacks.section import require_memory

#: Bytes of memory for a byte of the file while it is read: 4 for Label Studio's masks, 5 for run
#: lengths, 6 for polygons, measured.
_READING = 8


@dataclass(frozen=True)
class CocoReading:
    """How what COCO leaves open is read.

    Attributes
    ----------
    class_name
        Read only this class. Where annotations are of a single category of another name, or of
        none, they get this class.
    renamed
        With `class_name`: read only this category of the file, as that class.
    crowds_unsure
        Mark annotations with ``iscrowd`` 1 as unsure. COCO means a crowd of objects by it, CVAT
        writes it for every mask that was painted.
    fill_holes
        Add up all polygons of an annotation, also those inside another one.
    """

    class_name: str = ""
    renamed: str = ""
    crowds_unsure: bool = False
    fill_holes: bool = False


class CocoFile(ProblemList):
    """A COCO file as traced slices of a stack (see `TracingFile`).

    Parameters
    ----------
    path
        The file.
    target
        The stack. Images are matched by file name (see `NameIndex`), by the fields ``slice`` or
        ``slice_index``, or, where nothing matches, by `Target.slices` in order.
    reading
        How what COCO leaves open is read.

    Raises
    ------
    FossilError
        Where the file is no COCO file, none of its images is a slice of the stack, or ids that
        are used are not unique. What is wrong with single images and annotations is listed in
        `problems` instead.
    """

    def __init__(self, path: Path, target: Target, reading: CocoReading = CocoReading()) -> None:
        super().__init__(path)
        self._shape, self._reading = target.shape, reading
        with explained(path, "Reading"):
            need = _READING * path.stat().st_size
        require_memory(
            need, f"reading {path}", "Close other programs, or write a file for each few slices."
        )
        content = read_json(path, "a COCO annotation file, or tasks of Label Studio")
        if are_tasks(content):
            content = as_coco(self, content)
        images, annotations = (entries(path, content, key) for key in ("images", "annotations"))
        categories = entries(path, content, "categories", needed=False)
        self._classes = _Classes(self, categories, annotations, reading)
        self._images = find_images(self, images, annotations, target)
        self._bodies, self._anonymous = Counter[str](), Counter[str]()
        self._crowds = self._holes = self._cut = 0
        # Slices that are not traced, or less than the file says, because something is missing.
        self._untraced: list[int] = []
        self._untold: list[int] = []
        self._reduced: list[int] = []

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

        Slices with annotations none of which can be read are left out. Where some cannot be read,
        their boxes are no part of the traced area; where a box is unknown too, nothing is.
        """
        for image in self._images:
            before = len(self.problems)
            # Boxes of what is missing, None where it may be anywhere.
            missing: list[Box | None] = []
            read = [self._read(image.z, *pair, missing) for pair in image.annotations]
            instances = self.unique(_with_parents([pair for pair in read if pair is not None]))
            if not instances and len(self.problems) > before:
                continue
            bodies = [i for i in instances if i.part is Part.BODY]
            self._bodies.update(i.class_name for i in bodies)
            self._anonymous.update(i.class_name for i in bodies if i.specimen is None)
            yield self._traced(image, instances, missing)
        self._tell_assumptions()

    def _traced(
        self, image: SliceEntries, instances: list[Instance], missing: list[Box | None]
    ) -> TracedSlice:
        told = [entry["traced"] for entry in image.images if "traced" in entry]
        traced = told[0] if told else bool(image.annotations)
        self._untold += [] if told else [image.z]
        area = None
        if isinstance(traced, dict):
            try:
                area = read_segmentation(traced, self._shape).mask
            except FossilError as error:
                self.leave_out(f"the traced area of slice {image.z}", error)
                area = Mask.empty(self._shape)
        boxes = [box for box in missing if box is not None]
        if traced and len(boxes) < len(missing):
            self._untraced.append(image.z)
            return TracedSlice(image.z, instances, traced=False)
        if traced and boxes:
            self._reduced.append(image.z)
            pixels = np.ones(self._shape, np.bool_) if area is None else area.to_array()
            for y0, x0, y1, x1 in boxes:
                pixels[y0:y1, x0:x1] = False
            area = Mask.from_array(pixels)
        return TracedSlice(image.z, instances, bool(traced), area)

    def _tell_assumptions(self) -> None:
        if self._crowds and not self._reading.crowds_unsure:
            self.assume(
                "annotations with iscrowd 1 taken for one instance each, as CVAT writes painted "
                f"masks (--crowd unsure marks them unsure): {self._crowds}"
            )
        if self._holes:
            self.assume(
                "polygons inside another one of their annotation taken for holes (--holes fill "
                f"fills them): {self._holes}"
            )
        if self._cut:
            self.assume(f"annotations that reach out of the slice, cut off: {self._cut}")
        if untold := sorted({*self._untold} - {*self._reduced, *self._untraced}):
            self.assume(
                f"completely traced, which the file does not say: slices {format_slices(untold)}"
            )
        if self._reduced:
            self.assume(
                "completely traced but for the boxes of annotations that were left out: slices "
                + format_slices(self._reduced)
            )
        if self._untraced:
            self.assume(
                "not completely traced, because annotations were left out that may lie anywhere: "
                "slices " + format_slices(self._untraced)
            )

    def _read(
        self, z: int, index: int, entry: dict[str, Any], missing: list[Box | None]
    ) -> tuple[Entry, Instance] | None:
        """Read one annotation; None where it is broken or of a class that is not read.

        The place of what is broken is added to `missing`.
        """
        where = annotation_text(index, entry)
        code = entry.get("segmentation")
        try:
            name = self._classes.of(entry)
            if name is None:
                return None
            # COCO Annotator writes a box as a polygon of four corners.
            if (not code and entry.get("bbox")) or entry.get("isbbox") is True:
                raise FossilError(
                    "It has a box only, which is no outline", expected="polygons or run lengths"
                )
            decoded = read_segmentation(code, self._shape, fill_holes=self._reading.fill_holes)
        except FossilError as error:
            self.leave_out(where, error)
            missing.append(place_of(entry, self._shape))
            return None
        for note in decoded.notes:
            self.leave_out(where, note)
        if not decoded.complete:
            missing.append(place_of(entry, self._shape))
        if decoded.mask.area == 0:
            self.leave_out(where, "The mask has no pixel in the slice")
            return None
        crowd = entry.get("iscrowd") is True or whole(entry.get("iscrowd")) == 1
        self._crowds += crowd
        self._holes += decoded.holes
        self._cut += decoded.cut
        attributes = _attributes(entry)
        score: Any = entry.get("score")
        # Where this program and common tracing tools write which individual it is.
        places = (
            (attributes, "specimen"),
            (attributes, "track_id"),
            (entry, "track_id"),
            (entry, "specimen"),
        )
        numbers = (whole(holder.get(key)) for holder, key in places)
        return entry, Instance(
            slice=z,
            class_name=name,
            mask=decoded.mask,
            score=float(score) if type(score) in (int, float) and 0 <= score <= 1 else 1.0,
            part=Part.CAVITY if attributes.get("part") == Part.CAVITY else Part.BODY,
            texture=texture if _is_word(texture := attributes.get("texture")) else "",
            unsure=(crowd and self._reading.crowds_unsure)
            or attributes.get("confidence") == "unsure"
            or attributes.get("unsure") is True,
            origin=next((o for o in Origin if o == attributes.get("origin")), Origin.IMPORTED),
            reviewed=attributes.get("review") == ACCEPTED,
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
    if isinstance(content, list) and content and isinstance(content[0], dict):
        raise FossilError(
            f"{path} is a list of results, without the images and categories they belong to",
            expected="a COCO annotation file",
            found="a list",
            advice="Make it the list 'annotations' of the file with the images and categories that "
            "it was predicted for, and import that.",
        )
    what = "nothing" if value is None else type(value).__name__
    raise FossilError(f"{path} is no COCO annotation file", expected=f"a list {key!r}", found=what)


def _attributes(entry: Entry) -> dict[str, Any]:
    """Return the free attributes of an annotation; COCO Annotator calls them metadata."""
    holders = (entry.get("metadata"), entry.get("attributes"))
    return {k: v for holder in holders if isinstance(holder, dict) for k, v in holder.items()}


def _with_parents(read: Sequence[tuple[Entry, Instance]]) -> list[Instance]:
    """Give cavities the provisional id of the body they lie in."""
    ids: dict[int | str | None, dict[tuple[str, Mask], int | None]] = {}
    for entry, item in read:
        if item.part is Part.BODY:
            own = ids.setdefault(number_of(_attributes(entry).get("number", entry.get("id"))), {})
            own.setdefault((item.class_name, item.mask), item.id)
    instances = []
    for entry, item in read:
        told = ids.get(number_of(_attributes(entry).get("parent")), {})
        # An id that several bodies have tells nothing, nor does one of a body elsewhere: CVAT
        # gives annotations new ids. The place decides.
        known = item.part is Part.CAVITY and len(told) == 1
        there = known and overlap(item.mask.box, next(iter(told))[1].box)
        instances.append(replace(item, parent=next(iter(told.values()))) if there else item)
    return nested(instances, [item for item in instances if item.part is Part.BODY])


def _is_word(value: Any) -> TypeGuard[str]:
    """Return whether a text can be stored and shown: JSON also has halves of characters."""
    return isinstance(value, str) and value.isprintable() and value != ""


# ------------------------------------------------------------------------- classes


class _Classes:
    """Classes of the annotations of a file.

    Parameters
    ----------
    file
        Collects the problems.
    categories, annotations
        Its entries.
    reading
        Which class to read, or to assign.
    """

    def __init__(
        self,
        file: ProblemList,
        categories: Sequence[Any],
        annotations: Sequence[Any],
        reading: CocoReading,
    ) -> None:
        named: dict[int | str, set[str]] = {}
        for n, entry in enumerate(categories):
            name = entry.get("name") if isinstance(entry, dict) else None
            number = number_of(entry.get("id")) if isinstance(entry, dict) else None
            if isinstance(name, str) and name and number is not None:
                named.setdefault(number, set()).add(unicodedata.normalize("NFC", name))
            else:
                file.leave_out(f"category {n}", "it has no name or no id")
        numbers = {number_of(e.get("category_id")) for e in annotations if isinstance(e, dict)}
        # Some tools write a root category that nothing belongs to.
        used = {number: named[number] for number in named if number in numbers}
        for number, names in used.items():
            if len(names) > 1:
                raise FossilError(
                    f"{file.path} gives the id {number} to several categories, so that nobody can "
                    "tell the class of an annotation",
                    expected="an id for each category",
                    found=", ".join(sorted(names)),
                    advice="Files that were joined have to be numbered anew: export them once "
                    "more, or import one file after the other.",
                )
        # Classes are typed, and stand in tables and in names of files.
        plain = made_plain(sorted({name for names in named.values() for name in names}))
        self._foreign = {plain[name]: name for name in plain if plain[name] != name}
        self._names = {number: plain[min(names)] for number, names in named.items()}
        self._used = sorted({plain[min(names)] for names in used.values()})
        self._renamed = plain.get(reading.renamed, reading.renamed)
        self._file, self._reading = file, reading
        self._assigned = reading.class_name if self._is_assigned() else ""

    def _is_assigned(self) -> bool:
        """Return whether all annotations get the class to read, whatever their category."""
        wanted, renamed = self._reading.class_name, self._renamed
        looked_for = renamed or wanted
        there = looked_for in self._names.values()
        # A category that nothing belongs to would empty the class in all slices of the file.
        if not looked_for or looked_for in self._used or (there and not self._used):
            return False
        if not renamed and not there and len(self._used) <= 1:
            for name in self._used:
                self._file.assume(f"the category {name} of the file is the class {wanted}")
            return True
        known = self._used or sorted(set(self._names.values()))
        example = shlex.quote(f"{wanted}={known[0]}") if known else ""
        raise FossilError(
            f"{self._file.path} has no {'annotation of the ' * there}class {looked_for!r}",
            expected=f"one of {', '.join(known) or 'none'}",
            found=looked_for,
            advice=f"To read one of them under the name {wanted}: --class {example}"
            if known
            else "The file has no classes: choose --class without an equals sign.",
        )

    def of(self, entry: Entry) -> str | None:
        """Return the class of an annotation, None where it is not the one to read.

        Raises
        ------
        FossilError
            Where its category is not in the file.
        """
        number = number_of(entry.get("category_id"))
        name = None if number is None else self._names.get(number)
        if self._assigned and (name is not None or not self._used):
            return self._assigned
        if name is None:
            raise FossilError(
                "The category of the annotation is missing in the file",
                expected=f"one of {', '.join(map(str, self._names)) or 'none'}",
                found=entry.get("category_id"),
            )
        if self._renamed:
            return self._reading.class_name if name == self._renamed else None
        if self._reading.class_name not in ("", name):
            return None
        if name in self._foreign:
            self._file.assume(
                f"the category {self._foreign[name]!r} of the file is the class {name}, because no "
                f"class can have its name (--class {shlex.quote(f'NEW={name}')} gives it another)"
            )
        return name
