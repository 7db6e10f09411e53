"""The layers of a project in the viewer: made once, found again by the role they play."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import napari
from napari.layers import Labels, Layer

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance
from napari_fossiledit.project import LABELS, Project, Source
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray
from napari_fossiledit.widgets.canvas.readers import image_layer
from napari_fossiledit.widgets.common.compat import scale_bar_of
from napari_fossiledit.widgets.common.session import Session

ROLE, SOURCE = "fossiledit_role", "fossiledit_source"
AXES = ("z", "y", "x")


class Role(StrEnum):
    """What a layer shows of the project."""

    IMAGE = "image"
    PREDICTIONS = "predictions"
    LABELS = "labels"
    AREA = "area"
    REGIONS = "regions"
    OUTLINE = "outline"
    PERTURBED = "perturbed"
    BEFORE = "before"
    AFTER = "after"
    REDUCED = "reduced"
    SPECIMENS = "specimens"


def find(viewer: napari.Viewer, role: Role) -> Layer | None:
    """Return the layer that plays `role`, or None where the user closed it."""
    return next((lay for lay in viewer.layers if lay.metadata.get(ROLE) == role), None)


def remove(viewer: napari.Viewer, *roles: Role) -> None:
    """Take the layers of these roles out of the viewer."""
    for role in roles:
        while (layer := find(viewer, role)) is not None:
            viewer.layers.remove(layer)


def placed(project: Project, role: Role, step: int = 1) -> dict[str, Any]:
    """Scale in um, units and axis labels of a layer that lies over the stack.

    Parameters
    ----------
    step
        Pixels of the stack a pixel of the layer stands for, in y and x.
    """
    z, y, x = project.geometry.voxel_size.zyx
    return {
        "scale": (z, y * step, x * step),
        "translate": (0.0, y * (step - 1) / 2, x * (step - 1) / 2),
        "units": ("um", "um", "um"),
        "axis_labels": AXES,
        "metadata": {ROLE: role},
    }


def show_image(session: Session) -> Layer:
    """Show the photographs of the project, lazily; return their layer."""
    viewer = session.viewer
    found = find(viewer, Role.IMAGE)
    if found is not None:
        return found
    data, options, kind = image_layer(session.current)
    levels = data if isinstance(data, list) else [data]
    flat = [FlatArray(level, in_3d(viewer)) for level in levels]
    layer = Layer.create(flat if isinstance(data, list) else flat[0], options, kind)
    layer.metadata = {**layer.metadata, ROLE: Role.IMAGE}
    viewer.layers.insert(0, layer)
    viewer.reset_view()
    scale_bar_of(viewer).visible = True
    return layer


def show_predictions(session: Session, source: str, score: float, class_name: str = "") -> Labels:
    """Show the instances of a source above `score` over the stack, painted when looked at.

    Parameters
    ----------
    class_name
        Show this class only; empty: all.
    """
    project, viewer = session.current, session.viewer
    remove(viewer, Role.PREDICTIONS)
    wanted = class_name or None

    def read(z: int) -> list[Instance]:
        found = project.instances(source, z, class_name=wanted)
        return [i for i in found if i.id is not None]

    array = PredictionArray(read, project.shape, score)
    options = placed(project, Role.PREDICTIONS, array.step)
    flat = FlatArray(array, in_3d(viewer))
    layer = Labels(flat, name=f"Shown: {Source.parse(source).title}", opacity=0.5, **options)
    layer.editable = False
    layer.metadata[SOURCE] = source
    viewer.add_layer(layer)
    return layer


def shown_source(session: Session) -> str:
    """Name the source whose instances are shown over the stack, empty where none is."""
    layer = find(session.viewer, Role.PREDICTIONS)
    return "" if layer is None else str(layer.metadata.get(SOURCE, ""))


def prediction_array(layer: Layer) -> PredictionArray:
    """Return the data of the predictions' layer."""
    array = layer.data.array if isinstance(layer.data, FlatArray) else None
    if not isinstance(array, PredictionArray):
        raise FossilError(
            f"The layer {layer.name!r} does not show predictions",
            advice="Choose the predictions again in the dock Segment.",
        )
    return array


def show_labels(session: Session) -> Labels:
    """Show the labels that are corrected by hand; painting writes straight to ``labels.zarr``."""
    project, viewer = session.current, session.viewer
    found = find(viewer, Role.LABELS)
    if isinstance(found, Labels):
        return found
    data = label_data(session)
    layer = Labels(data, name="Labels", opacity=0.6, **placed(project, Role.LABELS))
    layer.editable = not project.read_only
    viewer.add_layer(layer)
    if layer.editable:
        # napari starts with 1, which is the id of something else as soon as anything is stored.
        layer.selected_label = project.ledger.new_instance(
            session.slice, session.paint_class or project.settings.classes[0], project.slice_shape
        )
    return layer


def label_data(session: Session) -> FlatArray:
    """Return the labels of the project as their layer takes them."""
    return FlatArray(session.current.labels.array, in_3d(session.viewer))


def in_3d(viewer: napari.Viewer) -> Callable[[], bool]:
    """Give a function that tells whether the viewer shows 3D, without keeping the viewer alive."""
    dims = weakref.ref(viewer.dims)

    def asked() -> bool:
        live = dims()
        return live is not None and bool(live.ndisplay == 3)

    return asked


def describe(layer: Labels, instances: Sequence[Instance]) -> None:
    """Let napari's status bar tell class, score and specimen of the instance under the cursor."""
    # The first row is the background: nothing is told of it.
    layer.features = {
        "index": [0, *(i.id for i in instances)],
        "class": [None, *(i.class_name for i in instances)],
        "score": [None, *(f"{i.score:.2f}" for i in instances)],
        "texture": [None, *(i.texture or None for i in instances)],
        "specimen": [None, *(_text_or_none(i.specimen) for i in instances)],
    }


def _text_or_none(value: int | None) -> str | None:
    return None if value is None else str(value)


def labels_in_use(project: Project) -> bool:
    """Whether anything was ever painted or filled into the labels."""
    return project.labels.exists or bool(project.ledger.done(LABELS))
