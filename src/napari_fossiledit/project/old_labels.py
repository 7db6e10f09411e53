"""Labels of projects of earlier versions: taken over once into the ledger.

Up to ledger version 1 corrected shapes were voxels in ``labels.zarr``, whose values were the ids of
blank instances of the source ``"labels"``. Now that source holds the masks themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.project.ledger import Ledger
from napari_fossiledit.project.source import ANNOTATIONS, LABELS

OLD_LABELS = "labels.zarr"
_NEW_NAME = "labels-taken-over"
_FACT = "labels taken over"
_log = logging.getLogger(__name__)
# What zarr and its decoders raise for damaged chunks and metadata.
_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError)


def take_over_labels(
    folder: Path, ledger: Ledger, shape: tuple[int, int, int], default_class: str
) -> tuple[str, ...]:
    """Write the instances that ``labels.zarr`` shows to the ledger, and put the file aside.

    They become the read-only source ``"labels"``, and the annotations (not traced) of slices that
    have none. Each slice is one transaction that also writes that it is done: killed at any point,
    the next opening goes on.

    Parameters
    ----------
    folder
        The project.
    shape
        (z, y, x) of its stack.
    default_class
        Class of labels that a person painted without asking for an id.

    Returns
    -------
    tuple of str
        What the user should know.

    Raises
    ------
    FossilError
        Where the ledger or the folder cannot be written.
    """
    old = folder / OLD_LABELS
    with ledger.recorded("take over labels", {}) as summary:
        ledger.free_ids()
        blank = {i.id: i for i in ledger.instances(LABELS) if i.id is not None and not i.mask.area}
        damaged: dict[int, str] = {}
        try:
            array = _opened(old, shape)
            painted = _painted(old, shape[0])
        except FossilError as error:
            array, painted = None, []
            if old.exists():
                summary["problem"] = str(error)
        for z in painted:
            try:
                with explained(old, f"Reading slice {z} of"):
                    labels = np.asarray(array[z], dtype=np.uint32)
            except (FossilError, *_BROKEN) as error:
                damaged[z] = str(error)
                continue
            _take_slice(ledger, z, _shown(labels, z, blank, default_class))
        ledger.forget_blank(LABELS)
        facts = ledger.get_meta(_FACT, {})
        summary |= {
            "annotated": format_slices(facts.get("annotated", [])),
            "kept": format_slices(facts.get("kept", [])),
            "damaged": {str(z): text for z, text in damaged.items()},
        }
        name = _put_aside(old)
        summary["file"] = name
    notes = _notes(summary)
    for note in notes:
        _log.warning("%s", note)
    return notes


def _opened(path: Path, shape: tuple[int, int, int]) -> Any:
    try:
        with explained(path, "Opening"):
            array = zarr.open_array(path, mode="r")
    except _BROKEN as error:
        raise FossilError(
            f"{path} cannot be read", expected="a zarr array", found=str(error)
        ) from error
    if (tuple(array.shape), array.dtype) != (shape, np.dtype(np.uint32)):
        raise FossilError(
            f"{path} does not fit the stack",
            expected=f"{shape} of uint32",
            found=f"{tuple(array.shape)} of {array.dtype}",
        )
    return array


def _painted(path: Path, count: int) -> list[int]:
    """Return the slices that have chunks; a stack of thousands has few."""
    with explained(path, "Reading"):
        names = [p.name for p in (path / "c").iterdir()] if (path / "c").is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal() and int(name) < count)


def _shown(
    labels: NDArray[np.uint32], z: int, rows: Mapping[int, Instance], default_class: str
) -> list[Instance]:
    """Return the instances that a slice of labels shows.

    A body is given back what its own cavities cover, because a voxel holds one value only.
    Cavities of bodies that are gone stand alone.
    """
    masks = masks_of_labels(labels)
    items = [
        replace(rows[value], mask=mask, slice=z)
        if value in rows
        else Instance(z, default_class, mask, id=value)
        for value, mask in masks.items()
    ]
    whole = []
    for item in items:
        mask = item.mask
        for other in items:
            if other.part is Part.CAVITY and other.parent == item.id:
                mask = mask | other.mask
        parent = item.parent if item.parent in masks else None
        whole.append(replace(item, mask=mask, parent=parent))
    return whole


def _take_slice(ledger: Ledger, z: int, shown: list[Instance]) -> None:
    with ledger.transaction():
        facts = ledger.get_meta(_FACT, {"annotated": [], "kept": []})
        # Another program may be taking over, too.
        if not shown or z in facts["annotated"] + facts["kept"]:
            return
        ledger.store(LABELS, z, shown, replace=False)
        known = z in ledger.annotated()
        if not known:
            # Numbers of specimens of another source mean nothing among those of annotations.
            new = [replace(i, score=1.0, specimen=None) for i in shown]
            ledger.store(ANNOTATIONS, z, new, replace=False)
        facts["kept" if known else "annotated"].append(z)
        ledger.set_meta(_FACT, facts)


def _put_aside(old: Path) -> str:
    """Give the file another name, so that nothing reads it any more; return it."""
    new = old.with_name(f"{_NEW_NAME}.zarr")
    for n in range(2, 100):
        if not new.exists():
            break
        new = old.with_name(f"{_NEW_NAME}-{n}.zarr")
    # Another program may have put it aside in the meantime.
    with explained(old, "Renaming"), suppress(FileNotFoundError):
        old.rename(new)
    return new.name


def _notes(summary: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [
        f"{OLD_LABELS} of an earlier version was taken over: it is {summary['file']} now and is not"
        " read any more."
    ]
    if summary["annotated"]:
        notes.append(
            f"The labels of slices {summary['annotated']} are annotations now, not marked as"
            " traced."
        )
    if summary["kept"]:
        notes.append(
            f"Slices {summary['kept']} had annotations and keep them; their labels are the source"
            f" {LABELS!r}."
        )
    if "problem" in summary:
        notes.append(f"No labels could be taken over: {summary['problem']}")
    for z, text in summary["damaged"].items():
        notes.append(f"The labels of slice {z} could not be taken over: {text}")
    return tuple(notes)
