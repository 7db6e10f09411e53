"""Multi-page TIFF stacks; the size of a voxel by ImageJ, OME or the resolution tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from xml.etree import ElementTree

from napari_fossiledit.stacks.cache import SliceCache
from napari_fossiledit.stacks.decode import DECODER_ERRORS
from napari_fossiledit.stacks.pixels import Pixels
from napari_fossiledit.stacks.section import SectionStack, StackRecord, SuggestedGeometry, named
from napari_fossiledit.stacks.tiff import TiffImages
from napari_fossiledit.stacks.units import in_um, pitch, resolution

if TYPE_CHECKING:
    from tifffile import TiffFile


class TiffStack(SectionStack):
    """A multi-page TIFF; the file stays open and is read one page at a time."""

    def __init__(self, record: StackRecord, cache: SliceCache | None = None) -> None:
        super().__init__(record, cache)
        self._images: TiffImages | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a TIFF as a stack, and check that all its slices are there.

        Raises
        ------
        FossilError
            Where pages differ in size or are missing, or the axes are not those of a stack.
        """
        with named(str(path), *DECODER_ERRORS):
            images = TiffImages(path)
            header = images.header()
        record = StackRecord(
            kind="tiff",
            path=path,
            names=tuple(f"{path.name}#{z}" for z in range(len(images))),
            shape=(len(images), *header.format.shape),
            dtype=header.format.dtype,
            rgb=header.format.rgb,
        )
        stack = cls(record)
        stack._images = images
        # Decoders differ between machines: what opens must be readable.
        stack.read(0)
        return stack

    @property
    def planes(self) -> int:
        """How many pages the slices are made of."""
        layout = self._opened().layout
        return layout.slices * layout.channels

    def suggested_geometry(self) -> SuggestedGeometry | None:
        """Return the voxel size by OME or ImageJ metadata, else by the resolution tags."""
        across, z, origin, _ = self._stated()
        return SuggestedGeometry(across, z, origin) if across or z else None

    def warnings(self) -> list[str]:
        """Return how the pages are interpreted, and what is odd about them."""
        with named(str(self.path), *DECODER_ERRORS), TiffImages(self.path) as images:
            notes = images.header().notes
        odd = self._stated().warning
        return [f"{self.path.name}: {note}." for note in notes] + ([odd] if odd else [])

    def close(self) -> None:
        """Close the file and forget the cached slices."""
        super().close()
        if self._images is not None:
            self._images.close()
        self._images = None

    def _opened(self) -> TiffImages:
        if self._images is None:
            self._images = TiffImages(self.path, check=False)
        return self._images

    def _decode(self, z: int) -> Pixels:
        with named(f"Slice {z} ({self.names[z]}) of {self.path}", *DECODER_ERRORS):
            return self._opened().pixels(z)

    def _stated(self) -> _Stated:
        with named(str(self.path), *DECODER_ERRORS):
            return self._stated_by(self._opened())

    def _stated_by(self, images: TiffImages) -> _Stated:
        name = self.path.name
        if images.tif.ome_metadata:
            stated = _by_ome(images.tif.ome_metadata, name)
        elif images.tif.imagej_metadata:
            stated = _by_imagej(images.tif, name)
        else:
            stated = _Stated()
        if stated.pixel or stated.spacing or stated.warning:
            return stated
        pixel = resolution(images.header().dpi)
        return _Stated(pixel.um, None, f"the resolution in {name}", pixel.warning)


class _Stated(NamedTuple):
    """Voxel size in um that a file states, where that is from, and what is odd about it."""

    pixel: float | None = None
    spacing: float | None = None
    origin: str = ""
    warning: str = ""


def _by_ome(xml: str, name: str) -> _Stated:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return _Stated()
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return _Stated()
    # OME's unit is um where none is given; each axis has its own.
    units = {a: pixels.get(f"PhysicalSize{a}Unit", "um") for a in "XYZ"}
    sizes = {a: in_um(pixels.get(f"PhysicalSize{a}"), units[a]) for a in "XYZ"}
    if sizes["X"] and sizes["Y"]:
        pixel = pitch(sizes["X"], sizes["Y"], "um")
    else:
        pixel = pitch(pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeY"), units["X"])
    return _Stated(pixel.um, sizes["Z"], f"OME metadata of {name}", pixel.warning)


def _by_imagej(tif: TiffFile, name: str) -> _Stated:
    metadata: dict[str, Any] = tif.imagej_metadata or {}
    page: Any = tif.pages[0]
    unit = str(metadata.get("unit", ""))
    # Pixels per unit; 1 is what is written where nothing is known.
    across, down = (1 / n if n and n != 1 else None for n in page.get_resolution())
    pixel = pitch(across, down, unit)
    spacing = in_um(metadata.get("spacing"), str(metadata.get("zunit", unit)))
    return _Stated(pixel.um, spacing, f"ImageJ metadata of {name}", pixel.warning)
