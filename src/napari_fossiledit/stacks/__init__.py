"""Lazy reading of serial-section stacks."""

from napari_fossiledit.stacks.opening import find_warnings, open_stack
from napari_fossiledit.stacks.section import SectionStack, StackRecord, SuggestedGeometry

__all__ = ["SectionStack", "StackRecord", "SuggestedGeometry", "find_warnings", "open_stack"]
