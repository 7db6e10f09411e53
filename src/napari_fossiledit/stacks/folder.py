"""Stacks of one image file per slice, and single images; the order that file names give."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Self

from natsort import natsorted, ns

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.decode import (
    SUFFIXES,
    read_header,
    read_image,
    transparent_share,
)
from napari_fossiledit.stacks.pixels import Pixels
from napari_fossiledit.stacks.section import (
    SectionStack,
    StackRecord,
    SuggestedGeometry,
)
from napari_fossiledit.stacks.units import UM_PER_INCH, believable_dpi

# Reading headers waits for the disk or the network, not for the processor.
_THREADS = 8
#: Places in the numbering that a warning lists.
_SHOWN_GAPS = 5


class FolderStack(SectionStack):
    """A stack of one image file per slice, or of a single image."""

    @classmethod
    def open(cls, path: Path, *, check: bool = True) -> Self:
        """Open a folder of images, or one image as a stack of one slice.

        Parameters
        ----------
        check
            Whether to read the header of every slice, or of the first one only.

        Raises
        ------
        FossilError
            Where there is no image, or one differs from the others in size, colour or depth.
        """
        names = image_names(path) if path.is_dir() else [path.name]
        folder = path if path.is_dir() else path.parent
        first = read_header(folder / names[0])
        if check:
            _check_alike(folder, names)
        record = StackRecord(
            kind="folder" if path.is_dir() else "image",
            path=path,
            names=tuple(names),
            shape=(len(names), *first.format.shape),
            dtype=first.format.dtype,
            rgb=first.format.rgb,
        )
        return cls(record)

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the pixel size by the resolution that the first file states."""
        dpi = read_header(self._file(0)).dpi
        if not believable_dpi(dpi):
            return None
        return SuggestedGeometry(
            UM_PER_INCH / dpi, None, f"{dpi:g} pixels per inch in {self.names[0]}"
        )

    def warnings(self) -> list[str]:
        """Return warnings of gaps in the numbering, and of transparency that is left out."""
        warnings = gap_warnings(self.names)
        if read_header(self._file(0)).alpha and (share := transparent_share(self._file(0))):
            warnings.append(
                f"{self.names[0]} is transparent in {share:.1%} of its pixels; the colours stored "
                "beneath are used."
            )
        return warnings

    def _file(self, z: int) -> Path:
        return self.path / self.names[z] if self.kind == "folder" else self.path

    def _decode(self, z: int) -> Pixels:
        return read_image(self._file(z))


def image_names(folder: Path) -> list[str]:
    """List the images of a folder in natural order; hidden files and other files are left out.

    Raises
    ------
    FossilError
        Where there is none.
    """
    files = [p.name for p in folder.iterdir() if is_image_name(p.name) and not p.is_dir()]
    if not files:
        others = Counter(p.suffix or p.name for p in folder.iterdir()).most_common(3)
        raise FossilError(
            f"The folder {folder} holds no images",
            expected="PNG, JPEG or TIFF files, one per slice",
            found=", ".join(f"{n} x {s}" for s, n in others) or "an empty folder",
            advice="Choose the folder that the photographs are in.",
        )
    return in_order(files)


def is_image_name(name: str) -> bool:
    """Return whether a file name looks like a visible PNG, JPEG or TIFF."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def in_order(names: Sequence[str]) -> list[str]:
    """Sort file names as people do: slice_2 comes before slice_10, case does not matter."""
    return natsorted(names, alg=ns.PATH | ns.IGNORECASE)


def gap_warnings(names: Sequence[str]) -> list[str]:
    """Return a warning for each place where sorted names skip numbers or repeat them.

    The usual step is the most common one (a stack may have every tenth number). Names whose
    numbers follow no step, such as times, give no warning.
    """
    numbers = _numbers(names)
    if len(numbers) < 3:
        return []
    steps = [b - a for a, b in pairwise(numbers)]
    usual, count = Counter(steps).most_common(1)[0]
    if usual <= 0 or count * 2 < len(steps):
        return []
    warnings = []
    for name, following, step in zip(names, names[1:], steps, strict=False):
        if step == 0:
            warnings.append(f"{name} and {following} carry the same number.")
        elif step != usual:
            missing = step // usual - 1
            plural = "s" if missing > 1 else ""
            lost = f": {missing} slice{plural} may be missing" if missing > 0 else ""
            warnings.append(f"The numbering jumps from {name} to {following}{lost}.")
    hidden = len(warnings) - _SHOWN_GAPS
    more = [f"... and {hidden} more such places."] if hidden > 0 else []
    return warnings[:_SHOWN_GAPS] + more


def _numbers(names: Sequence[str]) -> list[int]:
    """Return the number that counts the slices: the last one that differs between the names."""
    fields = [[int(n) for n in re.findall(r"\d+", Path(name).stem)] for name in names]
    if len({len(f) for f in fields}) != 1:
        return []
    columns = list(zip(*fields, strict=True))
    varying = [list(column) for column in columns if len(set(column)) > 1]
    return varying[-1] if varying else []


def _check_alike(folder: Path, names: Sequence[str]) -> None:
    """Raise an error that names the first file that differs from what most files are."""
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = list(pool.map(lambda name: read_header(folder / name), names))
    formats = [header.format for header in headers]
    usual = Counter(formats).most_common(1)[0][0]
    odd = [i for i, format_ in enumerate(formats) if format_ != usual]
    if odd:
        others = f" ({len(odd)} files differ)" if len(odd) > 1 else ""
        raise FossilError(
            f"{folder / names[odd[0]]} does not fit the {len(names) - len(odd)} other slices",
            expected=usual,
            found=formats[odd[0]],
            advice=f"Convert it to the format of the others or take it out of the folder{others}.",
        )
