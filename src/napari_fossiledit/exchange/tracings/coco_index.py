"""The skeleton of a COCO file: its classes, and which annotations belong to which slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.matching import NameIndex, by_order
from napari_fossiledit.exchange.tracings.tracing_file import ProblemList, Target, size_text

_SHOWN = 4

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class CocoImage:
    """An image of the file that is a slice of the stack.

    Attributes
    ----------
    z
        The slice.
    entry
        Its entry in ``images``.
    annotations
        Position in the file and entry of each of its annotations.
    """

    z: int
    entry: Entry
    annotations: tuple[tuple[int, Entry], ...]


def entries(path: Path, content: Any, key: str, *, needed: bool = True) -> list[Any]:
    """List of a COCO file, or say that the file is none."""
    found = content.get(key, None if needed else []) if isinstance(content, dict) else None
    if isinstance(found, list):
        return found
    what = "nothing" if found is None else type(found).__name__
    raise FossilError(f"{path} is no COCO annotation file", expected=f"a list {key!r}", found=what)


def whole_number(value: Any, default: int = -1) -> int:
    """Give `value` where it is a whole number (``true`` is none), else the default."""
    return value if type(value) is int else default


def is_word(value: Any) -> TypeGuard[str]:
    """Tell a text that can be stored and shown: JSON also has halves of characters."""
    return isinstance(value, str) and value.isprintable() and value != ""


class Classes:
    """Classes of the annotations of a file.

    Parameters
    ----------
    file
        Whose problems are noted.
    categories
        Its entries ``categories``.
    wanted
        Read only this class; where there is one category of another name, or none, assign it.
    """

    def __init__(self, file: ProblemList, categories: Sequence[Any], wanted: str) -> None:
        self._names: dict[int, str] = {}
        for n, entry in enumerate(categories):
            name = entry.get("name") if isinstance(entry, dict) else None
            if is_word(name) and type(entry.get("id")) is int:
                self._names[entry["id"]] = name
            else:
                file.leave_out(f"category {n}", "it has no name or no id")
        names = sorted(set(self._names.values()))
        self._wanted, self._assigned = wanted, bool(wanted) and wanted not in names
        if self._assigned and len(names) > 1:
            raise FossilError(
                f"{file.path} has no class {wanted!r}", expected=f"one of {', '.join(names)}"
            )

    def of(self, entry: Entry) -> str | None:
        """Class of an annotation, None where it is not wanted.

        Raises
        ------
        FossilError
            Where its category is not in the file.
        """
        if self._assigned:
            return self._wanted
        name = self._names.get(whole_number(entry.get("category_id")))
        if name is None:
            raise FossilError(
                "The category of the annotation is missing in the file",
                expected=f"one of {sorted(self._names)}",
                found=entry.get("category_id"),
            )
        return name if self._wanted in ("", name) else None


def find_images(
    file: ProblemList, images: Sequence[Any], annotations: Sequence[Any], target: Target
) -> list[CocoImage]:
    """Match images to slices and give them their annotations, in stack order.

    Raises
    ------
    FossilError
        Where no image is a slice of the stack, or none has its size.
    """
    slices = _right_sized(file, images, _matched(file, images, target), target)
    places = {_key(images[n]): n for n in range(len(images)) if isinstance(images[n], dict)}
    grouped: dict[int, list[tuple[int, Entry]]] = {n: [] for n in slices}
    for index, entry in enumerate(annotations):
        n = places.get(_key(entry, "image_id")) if isinstance(entry, dict) else None
        if n is None:
            is_entry = isinstance(entry, dict)
            reason = "its image is not in the file" if is_entry else "it is no annotation"
            file.leave_out(annotation_text(index, entry), reason)
        elif n in grouped:
            grouped[n].append((index, entry))
    found = [CocoImage(z, images[n], tuple(grouped[n])) for n, z in slices.items()]
    return sorted((i for i in found if i.annotations or "traced" in i.entry), key=lambda i: i.z)


def annotation_text(index: int, entry: Any) -> str:
    """Name of an annotation in messages."""
    known = entry.get("id") if isinstance(entry, dict) else None
    return f"annotation at position {index}" if known is None else f"annotation {known}"


def _key(entry: Entry, name: str = "id") -> str:
    """Identity of an image; some tools write numbers, some write text."""
    return repr(entry.get(name))


def _matched(file: ProblemList, images: Sequence[Any], target: Target) -> dict[int, int]:
    """Slice of each image that is wanted, by its position in the file."""
    index = NameIndex(target.names)
    slices: dict[int, int] = {}
    for n, entry in enumerate(images):
        z = _slice_of(entry, index, len(target.names)) if isinstance(entry, dict) else None
        if z is not None and z not in slices.values():
            slices[n] = z
    if not slices:
        slices = _in_order(file, images, target)
    for n in range(len(images)):
        if n not in slices:
            file.leave_out(_image_text(n, images[n]), "it is no slice of the stack, or one twice")
    return {n: z for n, z in slices.items() if target.slices is None or z in target.slices}


def _slice_of(entry: Entry, index: NameIndex, count: int) -> int | None:
    name = entry.get("file_name")
    told = (whole_number(entry.get(key)) for key in ("slice", "slice_index"))
    candidates = [index.find(name) if isinstance(name, str) else None, *told]
    return next((z for z in candidates if z is not None and 0 <= z < count), None)


def _in_order(file: ProblemList, images: Sequence[Any], target: Target) -> dict[int, int]:
    if target.slices is not None and images:
        ordered = enumerate(by_order(len(images), target, str(file.path)))
        return {n: z for n, z in ordered if isinstance(images[n], dict)}
    raise FossilError(
        f"No image of {file.path} is a slice of the stack",
        expected=_listed(target.names),
        found=_listed([_image_text(n, e) for n, e in enumerate(images)]),
        advice="Choose the slices they belong to with --slices, one for each image.",
    )


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


def _image_text(n: int, entry: Any) -> str:
    name = entry.get("file_name") if isinstance(entry, dict) else None
    return f"image {n}" if name is None else f"image {name}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "no image"
