"""Where napari keeps things, before and since 0.9."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
from napari.components import Camera
from napari.layers import Labels, Layer
from numpy.typing import NDArray
from qtpy.QtWidgets import QWidget

#: Key in the metadata of a layer: width of the rim of its fills, in its pixels.
RIM = "fossiledit_rim"


def camera_of(viewer: napari.Viewer) -> Camera:
    """Return the viewer's camera."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def scale_bar_of(viewer: napari.Viewer) -> Any:
    """Return the viewer's scale bar."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.scale_bar if canvas is None else canvas.overlays.scale_bar


def text_overlay_of(viewer: napari.Viewer) -> Any:
    """Return the text that the viewer can show over its canvas."""
    canvas = getattr(viewer, "canvas", None)
    return viewer.text_overlay if canvas is None else canvas.overlays.text


def canvas_size(viewer: napari.Viewer) -> tuple[int, int]:
    """Return height and width of the canvas in pixels of the screen."""
    canvas = getattr(viewer, "canvas", None)
    height, width = viewer._canvas_size if canvas is None else canvas.size
    return int(height), int(width)


def draw_with(
    layer: Labels, draw: Callable[[NDArray[Any], tuple[slice, ...] | None], NDArray[Any]]
) -> None:
    """Let `draw` make the texture of a layer's slice, or of a part of it.

    napari has no public way to have it drawn otherwise. Where it does not ask, it draws itself.
    """

    def drawn(raw: NDArray[Any], data_slice: tuple[slice, ...] | None = None) -> NDArray[Any]:
        return draw(raw, data_slice)

    layer._raw_to_displayed = drawn


def drop_area_of(viewer: napari.Viewer) -> QWidget | None:
    """Return the widget that takes what is dropped on the window, None where there is none.

    napari has no public way to it, and asks which reader is meant before any of them is called.
    """
    area = getattr(viewer.window, "_qt_viewer", None)
    return area if isinstance(area, QWidget) else None


def take_folders(viewer: napari.Viewer, take: Callable[[Path], bool]) -> None:
    """Let `take` have a folder that napari's menu opens before napari asks for a reader.

    Parameters
    ----------
    take
        Returns False for what is left to napari.
    """
    area = drop_area_of(viewer)
    left = getattr(area, "_qt_open", None)
    if left is None:
        return

    def opening(names: list[str], *args: Any, **options: Any) -> Any:
        paths = [Path(name) for name in names]
        asked = options.get("choose_plugin") or options.get("plugin")
        if asked or len(paths) != 1 or not paths[0].is_dir() or not take(paths[0]):
            return left(names, *args, **options)
        return None

    vars(area)["_qt_open"] = opening


def is_drawing(layer: Layer | None) -> bool:
    """Return whether a shape of the layer is being drawn.

    napari ends a shape at once, however small it is by then, where another layer is selected, as
    each new one is; there is no public way to ask.
    """
    return bool(getattr(layer, "_is_creating", False))


def ask_before_closing(window: Any, ask: Callable[[], bool | None]) -> None:
    """Let `ask` go before napari's own question where its menu or a key closes the window.

    napari has no public way to it; a close event comes after its question.

    Parameters
    ----------
    ask
        Returns whether the window may close; None: nothing was asked.
    """
    close = window.close

    def closing(quit_app: bool = False, confirm_need: bool = False) -> Any:
        answer = ask() if confirm_need else None
        if answer is False:
            return None
        return close(quit_app=quit_app, confirm_need=confirm_need and answer is None)

    window.close = closing


def refresh_box(layer: Labels, box: tuple[int, int, int, int]) -> None:
    """Show a part (y0, x0, y1, x1) of the slice again that has changed in a layer's data.

    The whole slice would take 25 ms per million pixels. napari does this after each stamp of a
    brush, but has no public way to ask for it.
    """
    shown = getattr(getattr(layer, "_slice", None), "image", None)
    plain = tuple(getattr(layer, "_slice_input", layer).displayed) == (1, 2)
    if shown is None or not plain or shown.raw.shape != layer.data.shape[1:]:
        layer.refresh(extent=False)
        return
    # Outlines also change around the box.
    around = max(int(layer.contour), int(layer.metadata.get(RIM, 0)))
    part = tuple(
        slice(max(start - around, 0), min(end + around, length))
        for start, end, length in zip(box[:2], box[2:], shown.raw.shape, strict=True)
    )
    shown.view[part] = layer._raw_to_displayed(shown.raw, part)
    layer._updated_slice = (slice(0, 1), *part)
    layer._partial_labels_refresh()
