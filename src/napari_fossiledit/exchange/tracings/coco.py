"""Traced slices as COCO files: polygons and run lengths, several slices in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.coco_index import (
    Classes,
    CocoImage,
    Entry,
    annotation_text,
    entries,
    find_images,
    is_word,
    whole_number,
)
from napari_fossiledit.exchange.tracings.coco_masks import read_segmentation
from napari_fossiledit.exchange.tracings.nesting import nested
from napari_fossiledit.exchange.tracings.tracing_file import ProblemList, Target, TracedSlice
from napari_fossiledit.files import read_json
from napari_fossiledit.masks import Instance, Mask, Origin, Part

_LARGEST_SPECIMEN = 2**31 - 1


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
        self._classes = Classes(self, categories, class_name)
        self._images = find_images(self, images, annotations, target)
        self._bodies, self._anonymous = Counter[str](), Counter[str]()

    @property
    def count(self) -> int:
        """Number of slices with annotations or with a traced area."""
        return len(self._images)

    @property
    def identified(self) -> bool:
        """Whether every body has a specimen, classes without any (such as the rock) apart."""
        known = [c for c in self._bodies if self._anonymous[c] < self._bodies[c]]
        return bool(known) and not any(self._anonymous[c] for c in known)

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time.

        Slices with annotations none of which can be read are left out.
        """
        for image in self._images:
            found = self._traced_slice(image)
            if found is not None:
                yield found

    def _traced_slice(self, image: CocoImage) -> TracedSlice | None:
        before = len(self.problems)
        read = [self._read(image.z, index, entry) for index, entry in image.annotations]
        instances = _with_parents([pair for pair in read if pair is not None])
        if not instances and len(self.problems) > before:
            return None
        bodies = [i for i in instances if i.part is Part.BODY]
        self._bodies.update(i.class_name for i in bodies)
        self._anonymous.update(i.class_name for i in bodies if i.specimen is None)
        traced = image.entry.get("traced", bool(image.annotations))
        area = self._area(image, traced) if isinstance(traced, dict) else None
        return TracedSlice(image.z, instances, bool(traced), area)

    def _area(self, image: CocoImage, code: dict[str, Any]) -> Mask | None:
        try:
            return read_segmentation(code, self._shape)[0]
        except FossilError as error:
            self.leave_out(f"the traced area of slice {image.z}", error)
            return Mask.empty(self._shape)

    def _read(self, z: int, index: int, entry: Entry) -> tuple[Entry, Instance] | None:
        """Read one annotation; None where it is broken or of a class that is not wanted."""
        where = annotation_text(index, entry)
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
        return entry, _instance(z, -1 - index, entry, name, mask)


def _instance(z: int, provisional: int, entry: Entry, name: str, mask: Mask) -> Instance:
    told = attributes(entry)
    crowd = entry.get("iscrowd") == 1
    return Instance(
        slice=z,
        class_name=name,
        mask=mask,
        score=_score(entry.get("score")),
        part=Part.CAVITY if told.get("part") == Part.CAVITY else Part.BODY,
        texture=texture if is_word(texture := told.get("texture")) else "",
        unsure=crowd or told.get("confidence") == "unsure" or told.get("unsure") is True,
        origin=Origin.IMPORTED,
        specimen=_specimen(entry, told),
        id=provisional,
    )


def attributes(entry: Entry) -> dict[str, Any]:
    """Free attributes of an annotation, none where there are none."""
    told = entry.get("attributes")
    return told if isinstance(told, dict) else {}


def _score(value: Any) -> float:
    """Score of a prediction, 1 where none is told."""
    return float(value) if type(value) in (int, float) and 0 <= value <= 1 else 1.0


def _specimen(entry: Entry, told: dict[str, Any]) -> int | None:
    """Identity through the stack, as this program and common tracing tools write it."""
    places = ((told, "specimen"), (told, "track_id"), (entry, "track_id"), (entry, "specimen"))
    numbers = (whole_number(holder.get(key)) for holder, key in places)
    return next((n for n in numbers if 0 <= n <= _LARGEST_SPECIMEN), None)


def _with_parents(read: Sequence[tuple[Entry, Instance]]) -> list[Instance]:
    """Tell cavities the provisional id of the body they lie in."""
    ids = {repr(entry.get("id")): item.id for entry, item in read if item.part is Part.BODY}
    told = [
        replace(item, parent=ids.get(repr(attributes(entry).get("parent"))))
        if item.part is Part.CAVITY
        else item
        for entry, item in read
    ]
    return nested(told, [item for item in told if item.part is Part.BODY])
