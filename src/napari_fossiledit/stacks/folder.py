"""Stacks of one image file per slice, and single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.decode import (
    SUFFIXES,
    Header,
    read_header,
    read_image,
    transparent_share,
)
from napari_fossiledit.stacks.numbering import gap_warnings, in_order
from napari_fossiledit.stacks.pixels import Pixels
from napari_fossiledit.stacks.section import (
    LazyStack,
    StackRecord,
    SuggestedGeometry,
)
from napari_fossiledit.stacks.units import UM_PER_INCH, believable_dpi

# Reading headers waits for the disk or the network, not for the processor.
_THREADS = 8


class FolderStack(LazyStack):
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
        kind = "folder" if path.is_dir() else "image"
        return cls(_record(kind, path, names, first))

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Pixel size by the resolution that the first file claims."""
        dpi = read_header(self._file(0)).dpi
        if not believable_dpi(dpi):
            return None
        return SuggestedGeometry(
            UM_PER_INCH / dpi, None, f"{dpi:g} pixels per inch in {self.names[0]}"
        )

    def warnings(self) -> list[str]:
        """Gaps in the numbering, and transparency that is left out."""
        found = gap_warnings(self.names)
        if read_header(self._file(0)).alpha and (share := transparent_share(self._file(0))):
            found.append(
                f"{self.names[0]} is transparent in {share:.1%} of its pixels; the colours stored "
                "beneath are used."
            )
        return found

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
    """Whether a file name looks like a visible PNG, JPEG or TIFF."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def _record(kind: str, path: Path, names: Sequence[str], first: Header) -> StackRecord:
    return StackRecord(
        kind=kind,
        path=path,
        names=tuple(names),
        shape=(len(names), *first.format.shape),
        dtype=first.format.dtype,
        rgb=first.format.rgb,
    )


def _check_alike(folder: Path, names: Sequence[str]) -> None:
    """Refuse the first file that differs from what most files are."""
    with ThreadPoolExecutor(_THREADS) as pool:
        headers = list(pool.map(lambda name: read_header(folder / name), names))
    formats = [header.format for header in headers]
    usual = Counter(formats).most_common(1)[0][0]
    odd = [i for i, found in enumerate(formats) if found != usual]
    if odd:
        raise FossilError(
            f"{folder / names[odd[0]]} does not fit the {len(names) - len(odd)} other slices",
            expected=usual,
            found=formats[odd[0]],
            advice=_advice(len(odd)),
        )


def _advice(count: int) -> str:
    others = f" ({count} files differ)" if count > 1 else ""
    return f"Convert it to the format of the others or take it out of the folder{others}."
