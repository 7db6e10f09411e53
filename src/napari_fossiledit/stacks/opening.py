"""Opening any kind of stack, first by looking at it, later by its record."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.stacks.folder import FolderStack
from napari_fossiledit.stacks.ome_zarr import ZarrStack, is_zarr
from napari_fossiledit.stacks.section import SectionStack, StackRecord
from napari_fossiledit.stacks.tiff import is_tiff
from napari_fossiledit.stacks.tiff_stack import TiffStack

#: Pixels of a slice from which on the user is warned of the memory that reading one takes.
_HUGE_PIXELS = 200 * 10**6

#: How each kind of stack is opened again by its record, without looking at the slices.
KINDS: dict[str, Callable[[StackRecord], SectionStack]] = {
    "folder": FolderStack,
    "image": FolderStack,
    "tiff": TiffStack,
    "zarr": ZarrStack,
    "blank": BlankStack,
}
_WITHOUT_FILES = ("blank",)


def open_stack(
    path: Path, *, check: bool = True, expected: StackRecord | None = None
) -> SectionStack:
    """Open a folder of images, an image, a multi-page TIFF or an OME-Zarr, lazily.

    Parameters
    ----------
    path
        The folder or file. Where a record is given, this is where the stack lies now.
    check
        Whether to read the header of every image of a folder; otherwise only the first.
    expected
        The stack as it was when it was checked. It is not checked again, so that thousands of
        slices open at once; a slice that changed since raises an error when it is read.

    Raises
    ------
    FossilError
        Where there is no stack, or its slices do not fit each other.
    """
    path = path.expanduser().absolute()
    with explained(path, "Opening"):
        if expected is not None:
            return _reopened(path, expected)
        if path.is_dir():
            return ZarrStack.open(path) if is_zarr(path) else FolderStack.open(path, check=check)
        if is_zarr(path):
            return ZarrStack.open(path)
        with path.open("rb") as stream:
            start = stream.read(4)
        stack = TiffStack.open(path) if is_tiff(start) else None
        return stack if stack is not None and stack.planes > 1 else FolderStack.open(path)


def find_warnings(stack: SectionStack) -> list[str]:
    """Return what is odd but usable about a stack, how it is interpreted, and its sheer size."""
    warnings = stack.warnings()
    pixels = math.prod(stack.shape[1:3])
    if pixels > _HUGE_PIXELS:
        warnings.append(
            f"A slice has {pixels / 1e6:.0f} megapixels; reading one takes about "
            f"{2 * stack.slice_bytes / 1e9:.1f} GB of memory."
        )
    return warnings


def _reopened(path: Path, record: StackRecord) -> SectionStack:
    if record.kind not in KINDS:
        raise FossilError(
            f"The stack {path} cannot be opened",
            expected=f"one of {', '.join(KINDS)}",
            found=f"a stack of kind {record.kind!r}",
            advice="The project may have been made by a newer version: update napari-fossiledit.",
        )
    if record.kind not in _WITHOUT_FILES:
        path.stat()
    return KINDS[record.kind](record.model_copy(update={"path": path}))
