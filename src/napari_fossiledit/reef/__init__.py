"""Specimens in 3D from instances of slices: linking, surfaces, measurements."""

from napari_fossiledit.reef.centre_lines import Branch, BranchPoint, CentreLines, centre_lines
from napari_fossiledit.reef.link import LinkEvent, LinkKind, LinkResult, link
from napari_fossiledit.reef.measure import Block, SpecimenRow, measure
from napari_fossiledit.reef.sections import Piece, Section, graph, sections_of, without_cracks
from napari_fossiledit.reef.surface import NEAR, Surface, build_surface, simplified, thinned

__all__ = [
    "NEAR",
    "Block",
    "Branch",
    "BranchPoint",
    "CentreLines",
    "LinkEvent",
    "LinkKind",
    "LinkResult",
    "Piece",
    "Section",
    "SpecimenRow",
    "Surface",
    "build_surface",
    "centre_lines",
    "graph",
    "link",
    "measure",
    "sections_of",
    "simplified",
    "thinned",
    "without_cracks",
]
