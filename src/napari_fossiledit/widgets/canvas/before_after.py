"""What a model finds on a slice before and after (an edit, a perturbation), one layer each."""

from __future__ import annotations

from dataclasses import dataclass

from napari.layers import Labels

from napari_fossiledit.masks import Instance
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    describe,
    find,
    in_3d,
    placed,
    prediction_array,
    remove,
)
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray
from napari_fossiledit.widgets.common.session import Session

_NAMES = {Role.BEFORE: "Before", Role.AFTER: "After"}
_FOUND, _INSTEAD = "fossiledit_found", "fossiledit_instead"


@dataclass
class _Found:
    """What one layer shows; kept with the layer, so that whoever finds it may change it."""

    slice: int = -1
    instances: tuple[Instance, ...] = ()

    def at(self, z: int) -> list[Instance]:
        return list(self.instances) if z == self.slice else []


class BeforeAfter:
    """Two layers of which one is seen; an instance has the same colour in both."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def show(self, z: int, before: tuple[Instance, ...], after: tuple[Instance, ...]) -> None:
        """Show what was found on slice `z`; which of the two is seen stays as it is.

        Parameters
        ----------
        before, after
            Instances with ids that tell which are the same.
        """
        for role, instances in ((Role.BEFORE, before), (Role.AFTER, after)):
            layer = self._layer(role)
            found: _Found = layer.metadata[_FOUND]
            found.slice, found.instances = z, instances
            prediction_array(layer).forget()
            describe(layer, instances)
            layer.refresh(extent=False)

    def see(self, role: Role) -> None:
        """See the one of them, not the other."""
        for each in _NAMES:
            layer = find(self.session.viewer, each)
            if layer is not None:
                layer.visible = each is role

    def toggle(self) -> None:
        """See the other one."""
        self.see(Role.BEFORE if self.sees_after else Role.AFTER)

    @property
    def sees_after(self) -> bool:
        """Whether the later one is seen."""
        layer = find(self.session.viewer, Role.AFTER)
        return layer is not None and bool(layer.visible)

    def hide(self) -> None:
        """Take both layers away, and show again what was shown before them."""
        after, shown = (find(self.session.viewer, r) for r in (Role.AFTER, Role.PREDICTIONS))
        if shown is not None and after is not None:
            shown.visible = bool(after.metadata.get(_INSTEAD))
        remove(self.session.viewer, Role.BEFORE, Role.AFTER)

    def _set_aside(self) -> bool:
        """Hide the instances that lie over the stack, and tell whether they were seen."""
        shown = find(self.session.viewer, Role.PREDICTIONS)
        if shown is None or not shown.visible:
            return False
        shown.visible = False
        return True

    def _layer(self, role: Role) -> Labels:
        viewer = self.session.viewer
        there = find(viewer, role)
        if isinstance(there, Labels):
            return there
        found = _Found()
        array = PredictionArray(found.at, self.session.current.shape, 0.0)
        options = placed(self.session.current, role, array.step)
        data = FlatArray(array, in_3d(viewer))
        layer = Labels(data, name=_NAMES[role], opacity=0.5, **options)
        layer.metadata[_FOUND] = found
        if role is Role.AFTER:
            layer.metadata[_INSTEAD] = self._set_aside()
        layer.editable = False
        layer.visible = role is Role.AFTER
        viewer.add_layer(layer)
        return layer
