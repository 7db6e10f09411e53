"""Label images as traced slices: each value is one instance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.label_files import LabelPage, label_pages
from napari_fossiledit.exchange.tracings.matching import NameIndex, by_order
from napari_fossiledit.exchange.tracings.tracing_file import (
    ProblemList,
    Target,
    TracedSlice,
    size_text,
)
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.masks.rle import intersections

#: Share of the values of neighbouring slices that must overlap to be taken for identities:
#: values counted anew in each slice agree by chance only.
_LEAST_AGREEMENT = 0.8
_LARGEST = 2**31 - 1

Masks = dict[int, Mask]


class LabelImages(ProblemList):
    """A folder of label images, a multi-page TIFF or one image (see `TracingFile`).

    Parameters
    ----------
    path
        The folder or file.
    target
        The stack. Images are matched by name (see `NameIndex`), else in order: to all slices
        where there are as many, else to the chosen ones.
    class_name
        Class of the instances.
    part
        What the masks cover.

    Raises
    ------
    FossilError
        Where there is no label image, or their number fits nothing.
    """

    def __init__(self, path: Path, target: Target, class_name: str, part: Part = Part.BODY) -> None:
        super().__init__(path)
        self._target, self._class_name, self._part = target, class_name, part
        self._pages = self._placed(label_pages(path))
        self._shared = self._overlapping = 0

    @property
    def count(self) -> int:
        """Number of images that are wanted."""
        return len(self._pages)

    @property
    def identified(self) -> bool:
        """Whether values mean the same specimen in every slice.

        Judged by the values that neighbouring slices share: nearly all of them must overlap.
        """
        return self._shared > 0 and self._overlapping >= _LEAST_AGREEMENT * self._shared

    def traced_slices(self) -> Iterator[TracedSlice]:
        """Read the slices in stack order, one at a time; images without a label are left out."""
        before: Masks = {}
        for z, page in self._pages:
            masks = self._masks(page)
            self._compare(before, masks)
            before = masks
            if masks:
                yield TracedSlice(z, [self._instance(z, v, m) for v, m in masks.items()])

    def _placed(self, pages: list[LabelPage]) -> list[tuple[int, LabelPage]]:
        """Slice of each wanted image, in stack order."""
        index, chosen = NameIndex(self._target.names), self._target.slices
        found = [index.find(page.name) for page in pages]
        if not any(z is not None for z in found):
            found = list(by_order(len(pages), self._target, str(self.path)))
        for z, page in zip(found, pages, strict=True):
            if z is None:
                self.leave_out(f"image {page.name}", "it is no slice of the stack")
        placed = {z: page for z, page in zip(found, pages, strict=True) if z is not None}
        return sorted((z, p) for z, p in placed.items() if chosen is None or z in chosen)

    def _masks(self, page: LabelPage) -> Masks:
        try:
            labels = page.read()
            if labels.shape != self._target.shape:
                raise FossilError(
                    "It is of another size",
                    expected=self._target.size,
                    found=size_text(labels.shape),
                )
        except FossilError as error:
            self.leave_out(f"image {page.name}", error)
            return {}
        masks = masks_of_labels(labels)
        for value in [v for v in masks if v > _LARGEST]:
            self.leave_out(f"image {page.name}", f"label {value} is above {_LARGEST}")
            del masks[value]
        return masks

    def _compare(self, before: Masks, after: Masks) -> None:
        """Count the values two neighbouring slices share, and those of them that overlap."""
        for value in before.keys() & after.keys():
            self._shared += 1
            self._overlapping += bool(intersections([before[value]], [after[value]])[0, 0])

    def _instance(self, z: int, value: int, mask: Mask) -> Instance:
        return Instance(
            slice=z,
            class_name=self._class_name,
            mask=mask,
            part=self._part,
            origin=Origin.IMPORTED,
            specimen=value,
            id=-value,
        )
