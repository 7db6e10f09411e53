"""The layers of a project in the viewer: made once, found again by their role."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Any

import napari
from napari.layers import Labels, Layer

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.project import Project, Source
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.flat import ArrayLike, FlatArray
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray
from napari_fossiledit.widgets.canvas.readers import image_layer, placed_in
from napari_fossiledit.widgets.common.compat import scale_bar_of
from napari_fossiledit.widgets.common.session import Session

ROLE, SOURCE = "fossiledit_role", "fossiledit_source"
_DESCRIBED, _EDITABLE = "fossiledit_described", "fossiledit_editable"
_COLUMNS = ("class", "score", "texture", "specimen")
#: What is known from the map of instances by id, see `set_map_features`.
_ON_MAP = "fossiledit_on_map"


class Role(StrEnum):
    """Part of the project that a layer shows."""

    IMAGE = "image"
    PREDICTIONS = "predictions"
    LABELS = "labels"
    AREA = "area"
    REGIONS = "regions"
    OUTLINE = "outline"
    PERTURBED = "perturbed"
    SALIENCY = "saliency"
    BEFORE = "before"
    AFTER = "after"
    REDUCED = "reduced"
    SPECIMENS = "specimens"
    PLACES = "places"


def find(viewer: napari.Viewer, role: Role) -> Layer | None:
    """Return the layer of a role, or None where there is none (any more)."""
    return next((lay for lay in viewer.layers if lay.metadata.get(ROLE) == role), None)


def remove(viewer: napari.Viewer, *roles: Role) -> None:
    """Remove the layers of these roles from the viewer."""
    for role in roles:
        while (layer := find(viewer, role)) is not None:
            viewer.layers.remove(layer)


def placed(project: Project, role: Role, step: int = 1) -> dict[str, Any]:
    """Return the options of a layer of a role over the stack; `step` is that of `placed_in`."""
    return {**placed_in(project.geometry.voxel_size, step), "metadata": {ROLE: role}}


def show_image(session: Session) -> Layer:
    """Show the photographs of the project, lazily; return their layer."""
    viewer = session.viewer
    existing = find(viewer, Role.IMAGE)
    if existing is not None:
        return existing
    data, options, kind = image_layer(session.current)
    levels = data if isinstance(data, list) else [data]
    flat = [FlatArray(level, in_3d(viewer)) for level in levels]
    options["visible"] = False
    layer = Layer.create(flat if isinstance(data, list) else flat[0], options, kind)
    layer.metadata = {**layer.metadata, ROLE: Role.IMAGE}
    add(viewer, layer, 0)
    viewer.reset_view()
    # Its letters take 0.1 s to be drawn, the first time.
    session.soon(partial(setattr, scale_bar_of(viewer), "visible", True))
    return layer


def add(
    viewer: napari.Viewer, layer: Layer, at: int | None = None, *, visible: bool = True
) -> None:
    """Add a layer that was made invisible, and show it.

    napari reads and draws a visible layer when it is made, at each property that is set, and when
    it is added: 0.3 s each for masks of 15 megapixels.

    Parameters
    ----------
    at
        Position among the layers; by default on top.
    """
    # In 3D, where nothing is read, it is hidden as it is added, and shown with the slices.
    later = viewer.dims.ndisplay == 2
    layer.visible = visible and not later
    viewer.layers.insert(len(viewer.layers) if at is None else at, layer)
    if visible and later:
        layer.visible = True


def show_predictions(
    session: Session,
    source: str,
    score: float,
    class_name: str = "",
    mask_cut: float = MASK_CUT,
) -> Labels:
    """Show the instances of a source with scores >= `score`, painted when a slice is shown.

    Parameters
    ----------
    class_name
        Show this class only; empty: all.
    mask_cut
        Probability at which the masks end, where the ledger holds their probabilities.
    """
    project, viewer = session.current, session.viewer

    def read(z: int) -> list[Instance]:
        instances = project.ledger.instances(
            source,
            slices=[z],
            class_name=class_name or None,
            with_probability=array.mask_cut != MASK_CUT,
        )
        return [i for i in instances if i.id is not None]

    array = PredictionArray(read, project.shape, score, mask_cut, colours_of(session).tint)
    name, layer = f"Shown: {Source.parse(source).title}", find(viewer, Role.PREDICTIONS)
    if isinstance(layer, Labels):
        # A new layer costs napari 0.3 s, and would lose the looks that the user gave this one.
        layer.data, layer.name, layer.visible = FlatArray(array, in_3d(viewer)), name, True
    else:
        layer = mask_layer(session, array, Role.PREDICTIONS, name, step=array.step)
        add(viewer, layer)
    layer.metadata[SOURCE] = source
    session.source_shown.emit()
    return layer


def mask_layer(
    session: Session, array: ArrayLike, role: Role, name: str, *, step: int = 1, tints: str = ""
) -> Labels:
    """Return a layer of instances in their colours, which nobody can paint into, for `add`.

    Parameters
    ----------
    step, tints
        See `placed_in` and `Colours.dress`.
    """
    flat = FlatArray(array, in_3d(session.viewer))
    layer = Labels(flat, name=name, visible=False, **placed(session.current, role, step))
    look = Role.LABELS if role is Role.LABELS else Role.PREDICTIONS
    colours_of(session).dress(layer, look, tints)
    set_editable(layer, editable=False)

    def hold(_: object) -> None:
        if layer.editable != layer.metadata[_EDITABLE]:
            layer.editable = layer.metadata[_EDITABLE]

    # napari makes a layer editable again after 3D, and when it gets other data.
    layer.events.editable.connect(hold)
    return layer


def set_editable(layer: Labels, *, editable: bool) -> None:
    """Let a layer of `mask_layer` be painted into, or not."""
    layer.metadata[_EDITABLE] = editable
    layer.editable = editable


def shown_source(session: Session) -> str:
    """Return the source whose instances are shown over the stack, empty where none is."""
    layer = find(session.viewer, Role.PREDICTIONS)
    return "" if layer is None else str(layer.metadata.get(SOURCE, ""))


def prediction_array(layer: Layer) -> PredictionArray:
    """Return the data of the predictions' layer."""
    array = layer.data.array if isinstance(layer.data, FlatArray) else None
    if not isinstance(array, PredictionArray):
        raise FossilError(
            f"The layer {layer.name!r} does not show predictions",
            advice='Choose the predictions again on the page "Segment".',
        )
    return array


def in_3d(viewer: napari.Viewer) -> Callable[[], bool]:
    """Return a function that returns whether the viewer shows 3D; it does not keep it alive."""
    dims = weakref.ref(viewer.dims)

    def shows_3d() -> bool:
        live = dims()
        return live is not None and bool(live.ndisplay == 3)

    return shows_3d


def describe(layer: Labels, instances: Sequence[Instance]) -> None:
    """Show class, score and specimen of the instance under the cursor in napari's status bar."""
    # napari makes a table of them, which takes some milliseconds.
    if layer.metadata.get(_DESCRIBED) == list(instances):
        return
    layer.metadata[_DESCRIBED] = list(instances)
    rows: dict[int, dict[str, Any]] = {
        id_: dict(row) for id_, row in layer.metadata.get(_ON_MAP, {}).items()
    }
    columns = {"index": None, **dict.fromkeys(_COLUMNS), **next(iter(rows.values()), {})}
    for i in instances:
        specimen = None if i.specimen is None else str(i.specimen)
        values = (i.class_name, f"{i.score:.2f}", i.texture or None, specimen)
        rows.setdefault(i.id or 0, {}).update(zip(_COLUMNS, values, strict=True))
    # The first row is the background, of which nothing is shown.
    ordered = [{"index": 0}, *({"index": id_, **row} for id_, row in rows.items())]
    layer.features = {key: [row.get(key) for row in ordered] for key in columns}


def set_map_features(layer: Labels, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Add what a map says of instances, by id, to the features of a layer.

    Other plugins find all instances of the map there, not only those of the slice on show.
    """
    layer.metadata[_ON_MAP] = rows
    describe(layer, layer.metadata.pop(_DESCRIBED, ()))
