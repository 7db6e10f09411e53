"""Voxel size as TIFF files state it: OME-XML, ImageJ's description, resolution tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_fossiledit.stacks.decode import tiff_dpi
from napari_fossiledit.stacks.section import SuggestedGeometry
from napari_fossiledit.stacks.units import UM_PER_INCH, believable_dpi, in_um

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage


def suggest(tif: TiffFile, name: str) -> SuggestedGeometry | None:
    """Voxel size that an opened TIFF claims, the most explicit source first."""
    page: Any = tif.pages[0]
    if tif.ome_metadata:
        found = _ome(tif.ome_metadata, name)
    elif tif.imagej_metadata:
        found = _imagej(tif.imagej_metadata, page, name)
    else:
        found = None
    return found or _tags(page, name)


def _ome(xml: str, name: str) -> SuggestedGeometry | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = root.find(".//{*}Pixels")
    if pixels is None:
        return None
    # OME's unit is um where none is given.
    x, z = (
        in_um(pixels.get(f"PhysicalSize{a}"), pixels.get(f"PhysicalSize{a}Unit", "um"))
        for a in "XZ"
    )
    return SuggestedGeometry(x, z, f"OME metadata of {name}") if x or z else None


def _imagej(metadata: dict[str, Any], page: TiffPage, name: str) -> SuggestedGeometry | None:
    unit = str(metadata.get("unit", ""))
    across = page.get_resolution()[0]
    x = in_um(1 / across if across and across != 1 else None, unit)
    z = in_um(metadata.get("spacing"), unit)
    return SuggestedGeometry(x, z, f"ImageJ metadata of {name}") if x or z else None


def _tags(page: TiffPage, name: str) -> SuggestedGeometry | None:
    dpi = tiff_dpi(page)
    if not believable_dpi(dpi):
        return None
    return SuggestedGeometry(UM_PER_INCH / dpi, None, f"{dpi:g} pixels per inch in {name}")
