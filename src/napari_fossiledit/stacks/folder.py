"""Stacks of one image file per slice, and single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from napari_fossiledit.errors import FossilError
from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.decode import read_header, read_image, transparent_share
from napari_fossiledit.stacks.listing import enumerated, list_images, name_warnings
from napari_fossiledit.stacks.pixels import Header, Pixels
from napari_fossiledit.stacks.section import (
    SectionStack,
    StackRecord,
    SuggestedGeometry,
)
from napari_fossiledit.stacks.units import resolution

# Reading headers waits for the disk or the network, not for the processor.
_THREADS = 8


class FolderStack(SectionStack):
    """A stack of one image file per slice, or of a single image."""

    def __init__(self, record: StackRecord, cache: SliceCache | None = None) -> None:
        super().__init__(record, cache)
        # Of all slices where they were checked, else of the first one.
        self._headers: list[Header] | None = None

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
        names = list_images(path).names if path.is_dir() else [path.name]
        folder = path if path.is_dir() else path.parent
        headers = _headers(folder, names if check else names[:1])
        first = headers[0]
        _check_alike(folder, names, headers)
        record = StackRecord(
            kind="folder" if path.is_dir() else "image",
            path=path,
            names=tuple(names),
            shape=(len(names), *first.format.shape),
            dtype=first.format.dtype,
            rgb=first.format.rgb,
        )
        stack = cls(record)
        stack._headers = headers
        return stack

    @property
    def headers(self) -> list[Header]:
        """Headers of all slices where they were checked, else of the first one alone."""
        if self._headers is None:
            self._headers = [read_header(self._file(0))]
        return self._headers

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the pixel size by the resolution that the first file states."""
        pixel = resolution(self.headers[0].dpi).um
        return (
            SuggestedGeometry(pixel, None, f"the resolution in {self.names[0]}") if pixel else None
        )

    def warnings(self) -> list[str]:
        """Return what is odd about names, files and pixels, and how those are interpreted."""
        left_out = list_images(self.path).left_out if self.kind == "folder" else ""
        warnings = [f"Left out of {self.path.name}: {left_out}."] if left_out else []
        warnings += name_warnings(self.names)
        noted: dict[str, list[str]] = {}
        for name, header in zip(self.names, self.headers, strict=False):
            for note in header.notes:
                noted.setdefault(note, []).append(name)
        warnings += [f"{enumerated(names)}: {note}." for note, names in noted.items()]
        if odd := resolution(self.headers[0].dpi).warning:
            warnings.append(odd)
        if self.headers[0].alpha and (share := transparent_share(self._file(0))):
            warnings.append(
                f"{self.names[0]} is transparent in {share:.1%} of its pixels; the colours stored "
                "beneath are used."
            )
        return warnings

    def _file(self, z: int) -> Path:
        return self.path / self.names[z] if self.kind == "folder" else self.path

    def _files(self, z: int) -> list[Path]:
        return [self._file(z)]

    def _decode(self, z: int) -> Pixels:
        return read_image(self._file(z))


def _headers(folder: Path, names: Sequence[str]) -> list[Header]:
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda name: read_header(folder / name), names))


def _check_alike(folder: Path, names: Sequence[str], headers: Sequence[Header]) -> None:
    """Raise an error that names the first file that differs from what most files are."""
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
