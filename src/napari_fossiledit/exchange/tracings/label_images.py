"""Label images as traced slices: one value a pixel, each value is one instance.

Files are listed, ordered and decoded as photographs are; the numbers are taken as they are stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label as connected_parts

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.tracing_file import (
    ProblemList,
    Target,
    TracedSlice,
    by_order,
    nearest,
    size_text,
)
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import intersections
from napari_fossiledit.stacks.decode import DECODER_ERRORS, read_stored, require_image
from napari_fossiledit.stacks.listing import list_images, name_warnings
from napari_fossiledit.stacks.ome_zarr import is_zarr, open_labels
from napari_fossiledit.stacks.section import named
from napari_fossiledit.stacks.tiff import TiffImages, is_tiff

LabelArray = NDArray[np.integer[Any]]

SUFFIXES = (".png", ".tif", ".tiff")

_LEAST_AGREEMENT = 0.8
"""Share of the values of neighbouring slices that must overlap to be taken for identities:
values counted anew in each slice agree by chance only."""

_LARGEST = 10**9
"""Larger values get numbers above it, which leaves the ledger ids of its own."""

# What programs write for "fossil" where they know no instances.
_MASK_VALUES = (1, 255, 65535)
_MOST_COVERED = 0.5
# A photograph, or labels blurred by compression: values lie about in pieces.
_PIECES, _LEAST_VALUES = 10, 20
# Parts below that many pixels are told when a mask is split.
_SMALL_PART = 10


class LabelImages(ProblemList):
    """A folder of label images, a multi-page TIFF, an OME-Zarr or one image (see `TracingFile`).

    Parameters
    ----------
    path
        The folder or file.
    target
        The stack. Images are matched by name (see `NameIndex`), else in order: to the chosen
        slices where there are as many, else to all.
    class_name
        Class of the instances.
    part
        What the masks cover.
    split
        True to make an instance of each connected part of a value; False to take a value for
        one instance even where all images are a mask, which is refused by default.

    Raises
    ------
    FossilError
        Where there is no label image, or their number fits nothing.
    """

    def __init__(
        self,
        path: Path,
        target: Target,
        class_name: str,
        part: Part = Part.BODY,
        *,
        split: bool | None = None,
    ) -> None:
        super().__init__(path)
        self._target, self._class_name, self._part = target, class_name, part
        self._split = split
        self._pages = self._placed(self._label_pages())
        self._shared = self._overlapping = self._small = 0
        self._renumbered: dict[int, int] = {}

    @property
    def count(self) -> int:
        """Number of images of chosen slices."""
        return len(self._pages)

    @property
    def identified(self) -> bool:
        """True where values mean the same specimen in every slice.

        Judged by the values that a slice shares with the last one that has any: nearly all of them
        must overlap.
        """
        if self._split:
            return False
        return self._shared > 0 and self._overlapping >= _LEAST_AGREEMENT * self._shared

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time; images without a label are left out.

        Raises
        ------
        FossilError
            Where the images are no label images but a mask or photographs, before the first.
        """
        if self._split is None:
            self._check_instances()
        before: dict[int, Mask] = {}
        for z, page in self._pages:
            masks = self._masks(page)
            for value in before.keys() & masks.keys():
                self._shared += 1
                self._overlapping += bool(intersections([before[value]], [masks[value]])[0, 0])
            # An image without a label was not traced: nothing is known to end there.
            before = masks or before
            instances = [
                Instance(
                    slice=z,
                    class_name=self._class_name,
                    mask=mask,
                    part=self._part,
                    origin=Origin.IMPORTED,
                    specimen=None if self._split else value,
                    id=-value,
                )
                for value, mask in masks.items()
            ]
            if instances:
                yield TracedSlice(z, instances)
        if self._renumbered:
            self.assume(
                f"values above {_LARGEST}, renumbered from {_LARGEST + 1} on: "
                f"{len(self._renumbered)}, e.g. {next(iter(self._renumbered))}"
            )
        if self._small:
            self.assume(f"instances of less than {_SMALL_PART} pixels: {self._small}")

    def _placed(self, pages: list[_LabelPage]) -> list[tuple[int, _LabelPage]]:
        """Return chosen slices with their images, in stack order."""
        chosen, names = self._target.slices, [page.name for page in pages]
        match = self.match(names, self._target)
        times = Counter(match.slices.values())
        # Pages of one name: nobody can tell which of them is meant.
        twice = {n: z for n, z in match.slices.items() if times[z] > 1}
        slices = {n: z for n, z in match.slices.items() if n not in twice}
        clashes = match.clashes | twice
        if slices:
            self._target.require_rising(f"the images of {self.path} have the names of slices")
        elif not clashes:
            slices = dict(enumerate(by_order(len(pages), self._target, str(self.path))))
            on = self._target.names[slices[0]]
            self.assume(f"images laid on slices in order, beginning with {names[0]} on {on}")
        for n, name in enumerate(names):
            if n in clashes:
                z = clashes[n]
                self.leave_out(f"image {name}", f"slice {z} has several images")
            elif n not in slices:
                self.leave_out(f"image {name}", "it is no slice of the stack")
        placed = {z: pages[n] for n, z in slices.items()}
        return sorted((z, p) for z, p in placed.items() if chosen is None or z in chosen)

    def _masks(self, page: _LabelPage) -> dict[int, Mask]:
        try:
            labels = self._labels(page)
        except FossilError as error:
            self.leave_out(f"image {page.name}", error)
            return {}
        if self._split:
            labels = connected_parts(labels, connectivity=2)
        masks = masks_of_labels(labels)
        if self._split:
            self._small += sum(mask.area < _SMALL_PART for mask in masks.values())
        for value in [v for v in masks if v > _LARGEST]:
            number = self._renumbered.setdefault(value, _LARGEST + 1 + len(self._renumbered))
            masks[number] = masks.pop(value)
        return masks

    def _labels(self, page: _LabelPage) -> LabelArray:
        """Read labels (y, x), and raise where they are none or of another size."""
        labels = self._whole_numbers(page.read(), page.name)
        if labels.shape != self._target.shape and self._target.scales(labels.shape):
            self.assume(
                f"drawn on copies of the photographs of {size_text(labels.shape)}, and scaled to "
                f"{self._target.size}"
            )
            sides = zip(self._target.shape, labels.shape, strict=True)
            return labels[np.ix_(*(nearest(n, of) for n, of in sides))]
        if labels.shape != self._target.shape:
            raise FossilError(
                "It is of another size",
                expected=self._target.size,
                found=size_text(labels.shape),
            )
        return labels

    def _whole_numbers(self, stored: NDArray[Any], name: str) -> LabelArray:
        """Return one whole number a pixel, 0 for none."""
        found = f"{stored.dtype} of shape {stored.shape}"
        if stored.ndim == 3 and (stored == stored[..., :1]).all():
            # Grey that was saved as RGB.
            stored = stored[..., 0]
        elif stored.ndim == 3:
            found = "a colour image"
        if stored.ndim == 2 and stored.dtype.kind == "f":
            whole = bool(np.isfinite(stored).all()) and not (stored % 1).any()
            if whole and float(np.abs(stored).max(initial=0)) < 2**63:
                stored = stored.astype(np.int64)
        if stored.ndim != 2 or stored.dtype.kind not in "iu":
            raise FossilError(
                f"{name} holds no label image",
                expected="one whole number a pixel",
                found=found,
                advice="Save the labels as grey values or indices of a palette.",
            )
        if stored.dtype.kind == "i" and int(stored.min(initial=0)) < 0:
            if int(stored.min()) < -1:
                raise FossilError(
                    f"{name} holds a negative label", expected="0 and above", found=stored.min()
                )
            self.assume("the value -1 means no fossil")
            stored = np.maximum(stored, 0)
        return stored

    # ----------------------------------------------- whether values are instances

    def _check_instances(self) -> None:
        """Raise where the images are a mask of all fossils, or photographs.

        A second value ends the search: only masks and single specimens are read twice.
        """
        values, most, covered = set[int](), 0, []
        for _, page in self._pages:
            try:
                labels = self._labels(page)
            except FossilError:
                continue
            painted = labels[labels != 0]
            if not painted.size:
                continue
            values |= {int(painted.min()), int(painted.max())}
            if len(values) > 1:
                self._check_pieces(labels, page)
                return
            covered.append(painted.size / labels.size)
            most = max(most, int(connected_parts(labels != 0, connectivity=2).max()))
        share = float(np.mean(covered)) if covered else 0.0
        if values.isdisjoint(_MASK_VALUES) and most > 1:
            self.assume(
                f"the value {values.pop()} is one specimen, in up to {most} parts of a slice"
            )
            return
        if values.isdisjoint(_MASK_VALUES) or (most < 2 and share <= _MOST_COVERED):
            return
        inverted = " If the fossils are black in it, invert it first." * (share > _MOST_COVERED)
        raise FossilError(
            f"{self.path} is a mask, not an image of instances",
            expected="one value for each instance",
            found=f"the value {values.pop()} alone, in up to {most} parts of a slice, on "
            f"{share:.0%} of the slices",
            advice="--split-parts yes makes an instance of each part, --split-parts no one of each "
            f"slice.{inverted}",
        )

    def _check_pieces(self, labels: LabelArray, page: _LabelPage) -> None:
        values = len(np.unique(labels)) - 1
        if values < _LEAST_VALUES:
            return
        pieces = int(connected_parts(labels, connectivity=2).max())
        if pieces > _PIECES * values:
            raise FossilError(
                f"{page.name} of {self.path} is no image of instances",
                expected="connected areas of one value for each instance",
                found=f"{values} values in {pieces} pieces",
                advice="It may be a photograph, or labels that were smoothed or compressed with "
                "loss; --split-parts no takes it nevertheless.",
            )

    # --------------------------------------------------------------------- files

    def _label_pages(self) -> list[_LabelPage]:
        """Find the label images of a folder, the slices of a zarr or a TIFF, or one image."""
        path = self.path
        if is_zarr(path):
            volume = open_labels(path)
            names = volume.attributes.get("names") or ()
            return [
                _LabelPage(
                    str(names[z]) if z < len(names) else f"{path.name}#{z}",
                    partial(_decoded, path, partial(volume.plane, z)),
                )
                for z in range(volume.sizes["z"])
            ]
        if not path.is_dir():
            return self._pages_of(path)
        listing = list_images(path, SUFFIXES)
        if listing.left_out:
            self.assume(f"left out of the folder: {listing.left_out}")
        for warning in name_warnings(listing.names):
            self.assume(warning.rstrip("."))
        pages = []
        for name in listing.names:
            try:
                pages += self._pages_of(path / name)
            except FossilError as error:
                self.leave_out(f"image {name}", error)
        return pages

    def _pages_of(self, path: Path) -> list[_LabelPage]:
        with named(str(path), *DECODER_ERRORS):
            with path.open("rb") as stream:
                start = stream.read(12)
            if not is_tiff(start):
                require_image(start, path)
                return [_LabelPage(path.name, partial(read_stored, path))]
            with TiffImages(path) as images:
                count, planes = len(images), images.separate_planes
        if count == 1 and planes > 1:
            # What tifffile makes of a volume of three or four slices.
            self.assume(f"the {planes} colour planes of {path.name} taken for slices")
            return [
                _LabelPage(f"{path.name}#{z}", partial(_decoded, path, partial(_plane, path, z)))
                for z in range(planes)
            ]
        if count == 1:
            # Opened again when it is read: a folder has more files than a process may hold open.
            return [_LabelPage(path.name, partial(_decoded, path, partial(_only_slice, path)))]
        images = TiffImages(path, check=False)
        return [
            _LabelPage(f"{path.name}#{z}", partial(_decoded, path, partial(images.stored, z)))
            for z in range(count)
        ]


class _LabelPage(NamedTuple):
    """One label image that was not read yet; a page of a TIFF is called ``"stack.tif#12"``."""

    name: str
    read: Callable[[], NDArray[Any]]


def _only_slice(path: Path) -> NDArray[Any]:
    with TiffImages(path, check=False) as images:
        return images.stored(0)


def _plane(path: Path, plane: int) -> NDArray[Any]:
    return np.ascontiguousarray(_only_slice(path)[..., plane])


def _decoded(path: Path, decode: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    with named(str(path), *DECODER_ERRORS):
        return decode()
