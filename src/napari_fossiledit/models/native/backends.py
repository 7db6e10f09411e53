"""Choose what computes a model: our own network, or detectron2 where a user has it.

Nothing of detectron2 is imported to find out whether it is there, and torch is imported only by
what computes.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.segment import Architecture, Backend, Precision

if TYPE_CHECKING:
    from napari_fossiledit.models.inference.protocol import Segmenter

LIBRARY = "detectron2"
HOW_TO_INSTALL = (
    "Install detectron2 into this environment (docs/detectron2.md says how on each platform), or"
    " choose the backend twin: it computes models of detectron2 alike."
)


def has_detectron2() -> bool:
    """Return whether detectron2 is installed, without importing it."""
    spec = find_spec(LIBRARY)
    # A mere folder of that name is no package.
    return spec is not None and spec.origin is not None


def require_backend(backend: Backend, architecture: Architecture | None = None) -> None:
    """Check that a backend is installed and has the network.

    Raises
    ------
    FossilError
        Saying what to install or to choose.
    """
    if backend is Backend.TWIN:
        return
    if architecture is Architecture.LITE:
        raise FossilError(
            "A lite model cannot run in detectron2",
            expected="a model of architecture r50, r101 or x101",
            found="lite, an EfficientNet that detectron2 does not have",
            advice="Choose the backend twin, or a model of such an architecture.",
        )
    if not has_detectron2():
        raise FossilError(
            "The backend detectron2 is not installed",
            expected="a package detectron2 that Python can import",
            found="none",
            advice=HOW_TO_INSTALL,
        )


def check_precision(precision: Precision, backend: Backend) -> None:
    """Raise `FossilError` where mixed precision is asked of another backend than our own."""
    if precision is Precision.MIXED and backend is not Backend.TWIN:
        raise FossilError(
            f"The backend {backend} does not compute in mixed precision here",
            expected="the precision full, or the backend twin",
            found=f"precision mixed with the backend {backend}",
        )


def on_backend(segmenter: Segmenter, backend: Backend) -> Segmenter:
    """Return a model that computes in a backend: same weights, same hash, same device.

    Raises
    ------
    FossilError
        Where the backend is not installed or does not have the network.
    """
    if backend is Backend.TWIN:
        return segmenter
    require_backend(backend, segmenter.spec.architecture)
    from napari_fossiledit.models.native.segmenter import native_segmenter

    return native_segmenter(segmenter)
