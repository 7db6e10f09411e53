"""Instances of a slice before and after an edit or a perturbation, one layer each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from napari.layers import Labels

from napari_fossiledit.masks import Instance
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.flat import FlatArray
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    add,
    describe,
    find,
    in_3d,
    mask_layer,
    remove,
)
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.session import Session

# Their ids are not the ledger's.
_TINTS = "before and after"
# The one that is seen first comes first.
_NAMES = {Role.AFTER: "After", Role.BEFORE: "Before"}
# What would lie over or under both, and be taken for them.
_HIDDEN = (Role.PREDICTIONS, Role.LABELS)
# Key in the metadata of the later layer: the roles of layers hidden for both.
_INSTEAD = "fossiledit_instead"


class BeforeAfter:
    """Two layers of which one is visible; an instance has the same colour in both."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._painting = JobRunner(session)
        self._shown: dict[Role, PredictionArray] = {}

    def show(self, z: int, before: Sequence[Instance], after: Sequence[Instance]) -> None:
        """Show the instances of slice `z` once they are painted, in a thread.

        Which of the two layers is visible stays as it is.

        Parameters
        ----------
        before, after
            Instances; those with the same id are the same.
        """
        colours = colours_of(self.session)
        found = {Role.BEFORE: tuple(before), Role.AFTER: tuple(after)}

        def array(instances: tuple[Instance, ...]) -> PredictionArray:
            return PredictionArray(
                lambda at: list(instances) if at == z else [],
                self.session.current.shape,
                0.0,
                seen=lambda at, seen: colours.tint(at, seen, _TINTS),
            )

        def put(_: None) -> None:
            for role in _NAMES:
                self.session.soon(partial(self._put, role, arrays[role], found[role]))

        arrays = self._shown = {role: array(instances) for role, instances in found.items()}
        self._painting.abandon()
        # The same ids will be other fossils on another slice.
        colours.forget(_TINTS)
        job = JobSpec("Painting", _paint, (list(arrays.values()), z), in_process=False)
        self._painting.start(job, self.session.while_open(put))

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
        """True while the later one is visible, or will be."""
        layer = find(self.session.viewer, Role.AFTER)
        return layer is None or bool(layer.visible)

    def hide(self) -> None:
        """Remove both layers, and show again what was hidden for them."""
        self._painting.abandon()
        self._shown = {}
        after = find(self.session.viewer, Role.AFTER)
        for role in after.metadata.get(_INSTEAD, ()) if after is not None else ():
            hidden = find(self.session.viewer, role)
            if hidden is not None:
                # Each is painted anew.
                self.session.soon(partial(setattr, hidden, "visible", True))
        remove(self.session.viewer, Role.BEFORE, Role.AFTER)

    def _put(self, role: Role, array: PredictionArray, instances: tuple[Instance, ...]) -> None:
        """Show one of the two, unless others are to be shown by now."""
        viewer = self.session.viewer
        if self._shown.get(role) is not array:
            return
        layer = find(viewer, role)
        if isinstance(layer, Labels):
            layer.data = FlatArray(array, in_3d(viewer))
            describe(layer, instances)
            return
        layer = mask_layer(self.session, array, role, _NAMES[role], step=array.step, tints=_TINTS)
        describe(layer, instances)
        add(viewer, layer, visible=self.sees_after == (role is Role.AFTER))
        if role is Role.AFTER:
            layer.metadata[_INSTEAD] = []
            for each in _HIDDEN:
                found = find(viewer, each)
                if found is not None and found.visible:
                    found.visible = False
                    layer.metadata[_INSTEAD].append(each)


def _paint(arrays: Sequence[PredictionArray], z: int, *, job: Any) -> None:
    """Paint slice `z` and choose its colours: the window then finds both ready."""
    del job
    for array in arrays:
        array.painted(z)
