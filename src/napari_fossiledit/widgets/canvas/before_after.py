"""Instances of a slice before and after an edit or a perturbation, one layer each."""

from __future__ import annotations

from dataclasses import dataclass

from napari.layers import Labels

from napari_fossiledit.masks import Instance
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    describe,
    find,
    mask_layer,
    prediction_array,
    remove,
)
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray
from napari_fossiledit.widgets.common.session import Session

# Their ids are not the ledger's.
_TINTS = "before and after"
_NAMES = {Role.BEFORE: "Before", Role.AFTER: "After"}
# What would lie over or under both, and be taken for them.
_HIDDEN = (Role.PREDICTIONS, Role.LABELS)
# Keys in the metadata of the layers: the instances, and the roles of layers hidden for them.
_SHOWN, _INSTEAD = "fossiledit_shown", "fossiledit_instead"


@dataclass
class _Shown:
    """Instances that one layer shows; kept in its metadata, to be replaced there."""

    slice: int = -1
    instances: tuple[Instance, ...] = ()

    def at(self, z: int) -> list[Instance]:
        return list(self.instances) if z == self.slice else []


class BeforeAfter:
    """Two layers of which one is visible; an instance has the same colour in both."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def show(self, z: int, before: tuple[Instance, ...], after: tuple[Instance, ...]) -> None:
        """Show the instances of slice `z`; which of the two layers is visible stays as it is.

        Parameters
        ----------
        before, after
            Instances; those with the same id are the same.
        """
        colours = colours_of(self.session)
        # The same ids will be other fossils on another slice.
        colours.forget(_TINTS)
        for role, instances in ((Role.BEFORE, before), (Role.AFTER, after)):
            layer = self._layer(role)
            shown: _Shown = layer.metadata[_SHOWN]
            shown.slice, shown.instances = z, instances
            colours.tint(z, instances, _TINTS)
            prediction_array(layer).forget()
            describe(layer, instances)
            layer.refresh(extent=False)

    def see(self, role: Role) -> None:
        """Show the layer of `role` and hide the other."""
        for each in _NAMES:
            layer = find(self.session.viewer, each)
            if layer is not None:
                layer.visible = each is role

    def toggle(self) -> None:
        """Swap which of the two layers is visible."""
        self.see(Role.BEFORE if self.sees_after else Role.AFTER)

    @property
    def sees_after(self) -> bool:
        """True while the later one is visible."""
        layer = find(self.session.viewer, Role.AFTER)
        return layer is not None and bool(layer.visible)

    def hide(self) -> None:
        """Remove both layers, and show again what was hidden for them."""
        after = find(self.session.viewer, Role.AFTER)
        for role in after.metadata.get(_INSTEAD, ()) if after is not None else ():
            hidden = find(self.session.viewer, role)
            if hidden is not None:
                hidden.visible = True
        remove(self.session.viewer, Role.BEFORE, Role.AFTER)

    def _layer(self, role: Role) -> Labels:
        viewer = self.session.viewer
        existing = find(viewer, role)
        if isinstance(existing, Labels):
            return existing
        shown = _Shown()
        array = PredictionArray(shown.at, self.session.current.shape, 0.0)
        layer = mask_layer(self.session, array, role, _NAMES[role], step=array.step, tints=_TINTS)
        layer.metadata[_SHOWN] = shown
        if role is Role.AFTER:
            hidden = layer.metadata[_INSTEAD] = []
            for each in _HIDDEN:
                found = find(viewer, each)
                if found is not None and found.visible:
                    found.visible = False
                    hidden.append(each)
        layer.visible = role is Role.AFTER
        viewer.add_layer(layer)
        return layer
