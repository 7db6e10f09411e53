"""The open project in the viewer: its photographs, keys, and what is shown in 3D."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from napari.layers import Image, Labels
from qtpy.QtCore import QTimer

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.placement import Alignment
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.stacks.reduce import Reduced
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.correcting import follow, reload, show_labels, slice_view
from napari_fossiledit.widgets.canvas.dropping import Drops, photographs_of
from napari_fossiledit.widgets.canvas.layers import (
    ROLE,
    Role,
    find,
    prediction_array,
    remove,
    show_image,
    shown_source,
)
from napari_fossiledit.widgets.canvas.readers import PHOTOGRAPHS, PROJECT
from napari_fossiledit.widgets.canvas.review_queue import ReviewQueue
from napari_fossiledit.widgets.canvas.selection import Selection
from napari_fossiledit.widgets.canvas.shortcuts import (
    EDITING,
    HELPING,
    NAVIGATING,
    NEW_LABEL,
    PAINTING,
    PICKING,
    PROBING,
    UNDOING,
    bind,
)
from napari_fossiledit.widgets.canvas.slice_marks import SliceMarks
from napari_fossiledit.widgets.canvas.view3d import (
    SOLID,
    ViewLayers,
    face_camera,
    move_plane,
    reduce_photographs,
    reduced_layer,
)
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.notices import errors_shown, show_done, show_error
from napari_fossiledit.widgets.common.session import Session

#: Milliseconds after a slice was drawn until the next one is made ready, and in which turns: the
#: first only waits until it is drawn.
_RESTED_MS = 30
_TURNS = (Role.IMAGE, Role.PREDICTIONS, Role.LABELS)


class ProjectView:
    """Shows whatever project the session opens, and nothing of it once it is closed."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.layers = ViewLayers(session.viewer, session.soon)
        self.selection = Selection(session)
        self.queue = ReviewQueue(session, self.selection)
        # Before `show` follows the session: layers take the colours of the project that is open.
        colours = colours_of(session)
        colours.changed.connect(self._colour_again)
        self.reducing = JobRunner(session)
        self.marks = SliceMarks(session)
        self.drops = Drops(session)
        self._reduced, self._latest = False, 0
        self._shown, self._next, self._turn = 0, 0, 0
        self._rested = QTimer(session)
        self._rested.setSingleShot(True)
        self._rested.timeout.connect(self._look_ahead)
        self._offered = ""
        self._alignment = Alignment()
        every = NAVIGATING + PAINTING + PICKING + EDITING + UNDOING + PROBING + HELPING
        bind(session.viewer, session, every)
        session.viewer.layers.events.inserted.connect(self._on_layer)
        session.viewer.layers.events.removing.connect(self._on_removing)
        session.viewer.dims.events.ndisplay.connect(self._on_ndisplay)
        session.project_changed.connect(self.show)
        session.slice_changed.connect(self._on_slice)
        session.annotations_changed.connect(self._look_where_slices_lie)
        follow(session)
        self.reducing.failed.connect(self._on_failed)
        self.adopt_layers()

    def show(self) -> None:
        """Replace the layers of the previous project by those of the one that is open."""
        viewer, project = self.session.viewer, self.session.project
        self.reducing.abandon()
        viewer.dims.ndisplay = 2
        self.layers.drop_solid(*SOLID)
        self._reduced = False
        remove(viewer, *Role)
        if project is None:
            self.marks.refresh()
            viewer.title = "napari"
            return
        with errors_shown():
            viewer.title = f"{project.path.stem} - napari"
            # In pixels, they would lie small in a corner of the rock, which is in um.
            for layer in [each for each in viewer.layers if PHOTOGRAPHS in each.metadata]:
                viewer.layers.remove(layer)
            self.session.photographs = None
            face_camera(viewer, project.geometry.z_direction)
            self._alignment = project.ledger.alignment()
            show_image(self.session)
            for said in project.notes:
                show_done(said)
        self.session.soon(self.marks.refresh)
        self.session.soon(self._show_labels)

    def _show_labels(self) -> None:
        with errors_shown():
            if self.session.current.ledger.done(ANNOTATIONS):
                show_labels(self.session)

    def adopt_layers(self) -> None:
        """Open a project that was dropped on the window before the docks were there."""
        for layer in self.session.viewer.layers:
            self._adopt(layer)

    def _offer(self, layer: Any) -> None:
        """Offer to make a project of photographs that napari's menu opened as a plain layer."""
        project, path = self.session.project, layer.source.path
        if not path or self._offered == path or not isinstance(layer, Image):
            return
        photographs = photographs_of([Path(path)])
        if photographs is None:
            return
        self._offered = path

        def make() -> None:
            # So that the page finds them in the viewer.
            layer.metadata = {**layer.metadata, PHOTOGRAPHS: str(photographs)}
            self.session.close()
            self.session.take_photographs(photographs)

        beside = "" if project is None else f" beside the project {project.path.stem}"
        show_done(
            f"{photographs.name} is shown as a picture{beside}, and belongs to no project. Fossils"
            " are found in the photographs of a project.",
            ("Make a project of these photographs", make),
        )

    def _adopt(self, layer: Any) -> None:
        """Open the project that `layer` was read from, where none is open."""
        if PROJECT not in layer.metadata and (
            self.session.project is not None or PHOTOGRAPHS not in layer.metadata
        ):
            self._offer(layer)
        if self.session.project is not None:
            return
        photographs = layer.metadata.get(PHOTOGRAPHS)
        if photographs is not None and self.session.photographs != Path(photographs):
            QTimer.singleShot(0, lambda: self.session.take_photographs(Path(photographs)))
        path = layer.metadata.get(PROJECT)
        if path is None:
            return

        def replace_layers() -> None:
            if self.session.project is None:
                layers = self.session.viewer.layers
                for each in [lay for lay in layers if lay.metadata.get(PROJECT) == path]:
                    layers.remove(each)
                with errors_shown():
                    self.session.open(Path(path))

        # napari adds the layers of a drop one by one: all of them have to be there.
        QTimer.singleShot(0, replace_layers)

    def _on_layer(self, event: object) -> None:
        """Open a dropped project, and bind keys to the labels too.

        A layer's own keys go before the viewer's, and napari's M would read the stack as a whole.
        """
        layer = getattr(event, "value", None)
        if layer is not None:
            self._adopt(layer)
        if isinstance(layer, Labels) and layer.metadata.get(ROLE) == Role.LABELS:
            bind(layer, self.session, PAINTING + NEW_LABEL + EDITING + UNDOING)
        elif isinstance(layer, Labels) and ROLE in layer.metadata:
            # napari's own undo knows only what was painted into this layer.
            bind(layer, self.session, PAINTING + EDITING + UNDOING)

    def _on_removing(self, event: Any) -> None:
        """Save strokes before their layer goes."""
        layer = self.session.viewer.layers[event.index]
        if layer.metadata.get(ROLE) == Role.LABELS:
            self.session.saving.emit()

    def _on_ndisplay(self, _: object) -> None:
        """In 3D, show a reduced copy of the photographs; it is made once, in a thread."""
        project = self.session.project
        if project is None:
            return
        if self.session.viewer.dims.ndisplay == 2:
            # napari itself goes back to the slice that was shown before 3D.
            self.session.go_to(self._latest)
            return
        self._latest = self.session.slice
        if not self._reduced and not self.reducing.is_running:
            show_done("Making a reduced copy of the photographs for 3D ...")
            job = JobSpec("Reducing the photographs", reduce_photographs, (project.path,), False)
            self.reducing.start(job, self._show_reduced)

    def _show_reduced(self, copy: Reduced) -> None:
        voxel_size = self.session.current.geometry.voxel_size
        self._reduced = True
        # Not in one turn with the surfaces, which may be ready at the same time.
        self.session.soon(
            lambda: self.layers.add_solid(reduced_layer(copy, voxel_size, self.session.slice))
        )
        show_done("The reduced copy of the photographs is shown in 3D.")

    def _look_ahead(self) -> None:
        """Read and paint the masks of the next slice on the way of the user, who waits less then.

        In this thread, as it takes some hundredths of a second; the user's own in a turn of their
        own, and nothing before the slice on show is drawn.
        """
        turn, self._turn = self._turn, self._turn + 1
        if turn < len(_TURNS) - 1:
            self._rested.start(0 if turn else _RESTED_MS)
        session, z = self.session, self._next
        project, role = session.project, _TURNS[turn]
        if project is None or not 0 <= z < project.shape[0]:
            return
        # What is wrong with the slice is said when it is shown; the window may be closed.
        with suppress(FossilError):
            layer, view = find(session.viewer, role), slice_view(session)
            if layer is None or not layer.visible:
                return
            if role is Role.LABELS and view is not None:
                view.make_ready(z)
            # Predictions may come any moment where there are none.
            elif role is Role.PREDICTIONS and project.ledger.is_done(shown_source(session), z):
                prediction_array(layer).shown(z)

    def _on_slice(self, z: int) -> None:
        self._next, self._shown, self._turn = 2 * z - self._shown, z, 0
        self._rested.start(0)
        viewer = self.session.viewer
        layer = find(viewer, Role.REDUCED)
        if viewer.dims.ndisplay == 3:
            self._latest = z
        if isinstance(layer, Image):
            move_plane(layer, z)

    def _look_where_slices_lie(self) -> None:
        """Show everything anew where slices lie elsewhere than when it was shown: all has moved."""
        project = self.session.project
        if project is None or project.ledger.alignment() == self._alignment:
            return

        def anew() -> None:
            z = self.session.slice
            with errors_shown():
                self.session.open(project.path)
            self.session.go_to(z)

        # Not in one turn with all that follows masks.
        self.session.soon(anew)

    def _colour_again(self) -> None:
        """Give what is shown the colours that were chosen in the meantime."""
        if self.session.project is None:
            return
        layer = find(self.session.viewer, Role.PREDICTIONS)
        if isinstance(layer, Labels):
            painted = prediction_array(layer).painted(self.session.slice)
            colours_of(self.session).tint(self.session.slice, painted.instances)
            layer.refresh(extent=False)
        reload(self.session)

    def _on_failed(self, error: FossilError) -> None:
        if not isinstance(error, CancelledError):
            show_error(error)


def attach(session: Session) -> ProjectView:
    """Return the view of a session; the first call makes it, and it follows the session."""
    view = session.view
    if not isinstance(view, ProjectView):
        session.view = view = ProjectView(session)
    return view


def open_project(session: Session, path: Path) -> None:
    """Open a project folder and show it."""
    attach(session)
    session.open(path)


def opens_made(session: Session) -> Callable[[Path], bool]:
    """Return what opens a project that a job is making, and whether it did.

    Where another project was opened or closed meanwhile, it offers the new one instead.
    """
    before = session.project

    def open_made(path: Path) -> bool:
        if session.project is before:
            open_project(session, path)
            return True
        action = ("Open it", lambda: open_project(session, path))
        show_done(f"The project {path.stem} is made, in {path.parent}.", action)
        return False

    return open_made
