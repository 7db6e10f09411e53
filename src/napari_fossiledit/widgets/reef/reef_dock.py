"""The page *Reef*: from instances in slices to specimens in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import napari
from qtpy.QtWidgets import QVBoxLayout

from napari_fossiledit.params.reconstruct import BEST_KNOWN, LinkParams, MeshParams
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.joined_mesh import SpecimenScene, build_scene
from napari_fossiledit.widgets.canvas.surfaces import ReefSurfaces
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.model_choices import Choice
from napari_fossiledit.widgets.common.notices import counted, show_done
from napari_fossiledit.widgets.common.paths import PathRow, Pick, ask_path
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import Dock, beside, button, fold, note, section
from napari_fossiledit.workflows.reef import link, measure, mesh
from napari_fossiledit.workflows.shared.sources import marked, shown_sources
from napari_fossiledit.workflows.shared.specimens import count_linked

TITLE = "Reef"
EMPTY = (
    "<b>No project is open.</b><br>Here sections become specimens: linked through the slices, "
    'shown in 3D, measured and exported. Open a project on the page "Start here" first.'
)
# Seen from the last slice, from above and the right: the photograph of the shown slice then lies
# behind most specimens instead of hiding them. (z, y, x).
_LOOKING, _UP = (-0.75, 0.45, -0.45), (0.0, -1.0, 0.0)
_COLUMNS = {
    "specimen": "No.",
    "slices": "Slices",
    "volume_mm3": "mm3",
    "surface_mm2": "mm2",
    "first_slice": "From",
    "last_slice": "To",
    "texture": "Texture",
}
_BEST = "yours, else predictions"
#: Only in the tooltip of a row: the page is narrow.
_HIDDEN = ("surface_mm2", "last_slice", "texture")


class ReefDock(Dock):
    """Link, look at specimens in 3D, measure, export."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.surfaces = ReefSurfaces(self.session)
        self._build_linking(section(self.column, "1. Link sections to specimens"))
        self._build_looking(section(self.column, "2. Look"))
        self._build_export(fold(self.column, "3. Export and measure"))
        changed = (
            self.session.annotations_changed,
            self.session.predictions_changed,
            self.session.edits_changed,
        )
        for signal in changed:
            signal.connect(self.linking.refresh)
        self._on_project()

    # ----------------------------------------------------------------- layout

    def _build_linking(self, inside: QVBoxLayout) -> None:
        self.linking = ParamsForm(
            LinkParams,
            advanced=("class_name", "min_overlap", "max_gap", "min_slices", "branches", "relink"),
            choices={"source": self._sources},
        )
        self.linked = note("")
        inside.addWidget(self.linking)
        inside.addWidget(
            button("Link", "Join sections of neighbouring slices that overlap.", self.link)
        )
        inside.addWidget(self.linked)

    def _build_looking(self, inside: QVBoxLayout) -> None:
        colours = colours_of(self.session)
        self.table = Table(_COLUMNS, colour_of=lambda row: colours.specimen(int(row["specimen"])))
        colours.changed.connect(self.table.repaint_rows)
        colours.chosen_changed.connect(self._on_chosen_elsewhere)
        for key in _HIDDEN:
            self.table.hideColumn(list(_COLUMNS).index(key))
        self.table.chosen.connect(self._on_chosen)
        inside.addWidget(
            beside(
                button("Show in 3D", "Build surfaces and turn to 3D.", self.show_in_3d),
                button("Show all", "Give every specimen its colour back.", self._show_all),
            )
        )
        self.hint = note("")
        inside.addWidget(self.hint)
        inside.addWidget(self.table)

    def _build_export(self, inside: QVBoxLayout) -> None:
        self.meshing = ParamsForm(
            MeshParams, hidden=("source",), labels={"mask_cut": "Mask cut (0: as linked)"}
        )
        self.folder = PathRow("mesh folder", Pick.FOLDER, "Folder for one file per specimen.")
        inside.addWidget(self.meshing)
        inside.addWidget(note("Folder for the meshes"))
        inside.addWidget(self.folder)
        inside.addWidget(
            beside(
                button("Export meshes", "Write a closed surface per specimen.", self.export),
                button("Measure ...", "Write a table (CSV) of all specimens.", self.measure),
            )
        )

    def _sources(self) -> list[str]:
        """Return the sources to link, what is best known first."""
        project = self.session.project
        sources = shown_sources(project) if project is not None else []
        named = [
            Choice.of(name, marked(project, name) if project is not None else "")
            for name in [*sources, ANNOTATIONS]
        ]
        return list(dict.fromkeys([Choice.named(BEST_KNOWN, _BEST), *named]))

    def refresh(self) -> None:
        """Clear the table of the previous project."""
        self.linking.refresh()
        self.table.show_rows([])
        self.table.hide()
        self.hint.show()
        self.linked.hide()
        project = self.session.project
        self._hint()
        if project is not None and not self.folder.text:
            self.folder.text = str(project.path.parent / f"{project.path.stem}-meshes")

    def _hint(self) -> None:
        """Say what is to be done before the specimens are listed."""
        project = self.session.project
        linked = 0 if project is None else count_linked(project)
        self.hint.setText(
            f"{linked} specimens are linked. Show them in 3D, and they are listed here."
            if linked
            else "Link the sections first, then show the specimens in 3D: they are listed here."
        )

    # ---------------------------------------------------------------- actions

    def link(self) -> None:
        """Join sections to specimens, in a process of its own."""
        project, params = self.session.writable, self.linking.read()
        then = self.session.while_open(self._on_linked)
        self.jobs.start("Linking", link.run, project.path, params, then=then)

    def _on_linked(self, outcome: Any) -> None:
        joined = counted(outcome.instances, "outline")
        fossils = counted(outcome.specimens, "fossil")
        out = "were left out: the score is too low, or the fossil lies in too few slices."
        left = f" {outcome.unlinked} {out}" if outcome.unlinked else ""
        doubts = (
            f" {counted(outcome.doubtful, 'link')} may be wrong: the queue on the page Review has "
            "those of your own masks."
            if outcome.doubtful
            else ""
        )
        self.linked.setText(f"{joined} joined to {fossils}.{left}{doubts}")
        self.linked.show()
        self._hint()
        self.session.specimens_changed.emit()

    def show_in_3d(self) -> None:
        """Build the surfaces of all specimens, in a process of its own, and show them."""
        project, params = self.session.current, self.meshing.read()
        then = self.session.while_open(self._on_scene)
        self.jobs.start("Building surfaces", build_scene, project.path, params, then=then)

    def _on_scene(self, scene: SpecimenScene) -> None:
        viewer = self.session.viewer
        self.table.show_rows([in_mm(row) for row in scene.rows])
        self._on_chosen_elsewhere()
        self.table.setVisible(bool(scene.rows))
        self.hint.setVisible(not scene.rows)
        for warning in scene.warnings:
            show_done(warning)
        if scene.meshes is None:
            self.hint.setText("No specimen was found. Link the sections first.")
            return
        viewer.dims.ndisplay = 3
        meshes = scene.meshes
        self.session.soon(lambda: self.surfaces.show(meshes))
        self.session.soon(self._look_at_specimens)

    def _look_at_specimens(self) -> None:
        viewer = self.session.viewer
        viewer.reset_view()
        camera_of(viewer).set_view_direction(_LOOKING, _UP)
        # Once more: how large the specimens appear depends on where they are seen from.
        viewer.reset_view(reset_camera_angle=False)

    def _show_all(self) -> None:
        self.table.clearSelection()
        self.surfaces.highlight()

    def _on_chosen(self, row: Mapping[str, Any]) -> None:
        self.surfaces.highlight(int(row["specimen"]))
        self.session.go_to(int(row["first_slice"]))

    def _on_chosen_elsewhere(self) -> None:
        self.table.mark("specimen", colours_of(self.session).chosen_specimens)

    def export(self) -> None:
        """Write a mesh of each specimen."""
        project, params = self.session.current, self.meshing.read()
        self.jobs.start(
            "Writing meshes",
            mesh.run,
            project.path,
            self.folder.path(),
            params,
            then=lambda result: show_done(
                f"{counted(len(result.files), 'surface')} written into {result.folder}."
            ),
        )

    def measure(self) -> None:
        """Write a table of all specimens."""
        project = self.session.current
        proposed = str(project.path.parent / f"{project.path.stem}.csv")
        chosen = ask_path(self, Pick.SAVE_FILE, "Write the table", proposed, "Table (*.csv)")
        if not chosen:
            return
        self.jobs.start(
            "Measuring",
            measure.run,
            project.path,
            Path(chosen),
            self.meshing.read(),
            then=lambda result: show_done(
                f"{counted(len(result.rows), 'fossil')} measured: the table is {result.file}."
            ),
        )


def in_mm(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with volume and surface in mm too, easier to compare than in um."""
    volume, surface = record.get("volume_um3"), record.get("surface_um2")
    return {
        **record,
        "volume_mm3": None if volume is None else float(volume) / 1e9,
        "surface_mm2": None if surface is None else float(surface) / 1e6,
    }
