"""The page *Reef*: from instances in slices to specimens in 3D."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import napari
from qtpy.QtWidgets import QVBoxLayout

from napari_fossiledit.params.reconstruct import (
    BEST_KNOWN,
    EVERY_CLASS,
    Branches,
    Ends,
    LinkParams,
    MeasureParams,
    MeshParams,
    OrientParams,
    ReportParams,
)
from napari_fossiledit.params.spread import SPREAD
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.joined_mesh import SpecimenScene, build_scene
from napari_fossiledit.widgets.canvas.pointing import look_at
from napari_fossiledit.widgets.canvas.surfaces import ReefSurfaces
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.model_choices import Choice
from napari_fossiledit.widgets.common.notices import counted, show_done
from napari_fossiledit.widgets.common.paths import PathRow, Pick, ask_path, open_report
from napari_fossiledit.widgets.common.tables import Table
from napari_fossiledit.widgets.dock import Dock, beside, button, fold, note, section
from napari_fossiledit.widgets.reef.view_panel import ViewPanel, key_of
from napari_fossiledit.workflows.reef import export, link, measure, mesh, orient, report
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
_ONE_FILE = "Scene (*.glb *.3mf *.ply *.obj *.stl *.vaxml);;Volume (*.nrrd *.nii.gz *.tif *.zarr)"
_LINKING = {
    "relink": "Forget imported identities",
    "class_name": "Class",
    "min_overlap": "Least overlap",
    "max_gap": "Most slices missed",
    "branches": "Branching fossils",
    "min_slices": "Fewest slices",
}
_MESHING = {
    "cavities": "Cut out cavities",
    "mask_cut": "Mask cut (0: as linked)",
    "ends": "At the sides of the block",
    "bridge": "Bridge gaps (slices)",
    "max_faces": "Most faces (0: all)",
    "max_error": "Largest error (um)",
}
#: Only in the tooltip of a row: the page is narrow.
_HIDDEN = ("surface_mm2", "last_slice", "texture")


class ReefDock(Dock):
    """Link, look at specimens in 3D, measure, export."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self.surfaces = ReefSurfaces(self.session)
        self._build_linking(section(self.column, "1. Link sections to specimens"))
        self._build_looking(section(self.column, "2. Look"))
        self._build_export(fold(self.column, "3. Export"))
        self._build_measuring(fold(self.column, "4. Measure and report"))
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
            choices={"source": self._sources, "class_name": self._classes},
            labels=_LINKING,
            words={Branches.GRAPH: "stay one fossil", Branches.CUT: "one fossil a branch"},
        )
        self.linked = note("")
        inside.addWidget(self.linking)
        inside.addWidget(
            button("Link", "Join sections of neighbouring slices that overlap.", self.link)
        )
        inside.addWidget(self.linked)

    def _build_looking(self, inside: QVBoxLayout) -> None:
        colours = colours_of(self.session)
        self.looks = ViewPanel(self.surfaces, self.jobs)
        self.table = Table(_COLUMNS, colour_of=lambda row: self.looks.colour(key_of(row)))
        colours.changed.connect(self.table.repaint_rows)
        self.looks.coloured.connect(self.table.repaint_rows)
        colours.chosen_changed.connect(self._on_chosen_elsewhere)
        for key in _HIDDEN:
            self.table.hideColumn(list(_COLUMNS).index(key))
        self.table.chosen.connect(self._on_chosen)
        inside.addWidget(
            beside(
                button("Show in 3D", "Build surfaces and turn to 3D.", self.show_in_3d),
                button(
                    "Show all",
                    "Give every fossil its colour back, and fit all into the canvas.",
                    self._show_all,
                ),
            )
        )
        self.hint = note("")
        inside.addWidget(self.hint)
        inside.addWidget(self.table)
        inside.addWidget(self.looks)

    def _build_export(self, inside: QVBoxLayout) -> None:
        self.meshing = ParamsForm(
            MeshParams,
            hidden=("source", *SPREAD),
            advanced=("mask_cut", "ends", "bridge", "max_faces", "max_error"),
            labels=_MESHING,
            words={Ends.CAPPED: "closed", Ends.OPEN: "open"},
        )
        self.folder = PathRow("mesh folder", Pick.FOLDER, "Folder for one file per specimen.")
        inside.addWidget(self.meshing)
        inside.addWidget(note("Folder for the meshes"))
        inside.addWidget(self.folder)
        one_file = "Write all into one file: a scene, or a volume of labels for 3D Slicer."
        inside.addWidget(
            beside(
                button("Export meshes", "Write a closed surface per specimen.", self.export),
                button("One file ...", one_file, self.export_one),
            )
        )

    def _build_measuring(self, inside: QVBoxLayout) -> None:
        self.measuring = ParamsForm(
            MeasureParams,
            hidden=(*MeshParams.model_fields, "plots"),
            advanced=("cube_um", "cubes", "seed"),
            labels={"close_cracks": "Close cracks (um)", "cube_um": "Edge of cubes (um)"},
        )
        self.assumed = note("")
        self.assumed.hide()
        inside.addWidget(self.measuring)
        tables = "Write tables (CSV) of all specimens and of the reef, and plots."
        page = "Write a page with pictures, figures, where they come from, and a draft of methods."
        inside.addWidget(
            beside(
                button("Measure ...", tables, self.measure),
                button("Report ...", page, self.report),
            )
        )
        inside.addWidget(self.assumed)
        angles = fold(inside, "Directions in the field")
        self.orienting = ParamsForm(OrientParams, advanced=("strike_heading",))
        angles.addWidget(self.orienting)
        tip = "Keep these angles with the project: directions are then those of the rock."
        angles.addWidget(button("Keep the angles", tip, self.orient))

    def _sources(self) -> list[str]:
        """Return the sources to link, what is best known first."""
        project = self.session.project
        sources = shown_sources(project) if project is not None else []
        named = [
            Choice.of(name, marked(project, name) if project is not None else "")
            for name in [*sources, ANNOTATIONS]
        ]
        return list(dict.fromkeys([Choice.named(BEST_KNOWN, _BEST), *named]))

    def _classes(self) -> list[str]:
        """Return the classes to link."""
        project = self.session.project
        names = list(project.settings.classes) if project is not None else []
        first = Choice.named("", names[0] if names else "")
        every = [Choice.named(EVERY_CLASS, "all classes")] if names[1:] else []
        return [first, *every, *names[1:]]

    def refresh(self) -> None:
        """Clear the table of the previous project."""
        self.linking.refresh()
        self._show_rows([])
        self.hint.show()
        self.linked.hide()
        self.assumed.hide()
        project = self.session.project
        angles = None if project is None else project.settings.orientation
        for name, row in self.orienting.rows.items():
            row.value = row.field.get_default() if angles is None else getattr(angles, name)
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
        self._show_rows([in_mm(row) for row in scene.rows])
        self._on_chosen_elsewhere()
        for warning in scene.warnings:
            show_done(warning)
        if scene.share < 1:
            self.hint.setText(
                f"To be quick, 3D shows reduced copies with {scene.share:.0%} of the faces. Figures"
                " and exported files are of the whole surfaces."
            )
        self.hint.setVisible(scene.share < 1 or not scene.rows)
        if scene.meshes is None:
            self.hint.setText("No specimen was found. Link the sections first.")
            return
        viewer.dims.ndisplay = 3
        meshes = scene.meshes
        self.session.soon(lambda: self.surfaces.show(meshes))
        self.session.soon(self._look_at_specimens)

    def _show_rows(self, rows: list[dict[str, Any]]) -> None:
        self.table.show_rows(rows)
        self.looks.show_rows(rows)
        self.table.setVisible(bool(rows))

    def _look_at_specimens(self) -> None:
        viewer = self.session.viewer
        viewer.reset_view()
        camera_of(viewer).set_view_direction(_LOOKING, _UP)
        # Once more: how large the specimens appear depends on where they are seen from.
        viewer.reset_view(reset_camera_angle=False)

    def _show_all(self) -> None:
        self.table.clearSelection()
        self.surfaces.highlight()
        if self.surfaces.is_shown:
            self.surfaces.look_at_all()

    def _on_chosen(self, row: Mapping[str, Any]) -> None:
        """Show a specimen in 3D, or its section in the first of its slices."""
        self.surfaces.highlight(key_of(row))
        if self.surfaces.is_shown:
            self.surfaces.look_at(key_of(row))
        else:
            pixel = self.session.current.geometry.pixel_size_um
            corners = (f"box_{end}_{axis}_um" for end in ("low", "high") for axis in "yx")
            y0, x0, y1, x1 = (round(row[name] / pixel + 0.5) for name in corners)
            look_at(self.session, int(row["first_slice"]), (y0, x0, y1, x1), fitting=True)

    def _on_chosen_elsewhere(self) -> None:
        chosen = colours_of(self.session).chosen_specimens
        self.table.mark(lambda row: key_of(row) in chosen)

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

    def export_one(self) -> None:
        """Write all specimens into one file."""
        project, params = self.session.current, self.meshing.read()
        proposed = str(project.path.with_suffix(".glb"))
        chosen = ask_path(self, Pick.SAVE_FILE, "Write all specimens", proposed, _ONE_FILE)
        if chosen:
            self.jobs.start(
                "Writing the specimens",
                export.run,
                project.path,
                Path(chosen),
                params,
                whole=True,
                then=lambda result: show_done(
                    f"{counted(result.specimens, 'fossil')} written: {result.file}.",
                ),
            )

    def measure(self) -> None:
        """Write tables of all specimens and of the reef, and plots in a folder beside them."""
        values, path = self._measured_by(), self.session.current.path
        proposed = str(path.with_suffix(".csv"))
        chosen = ask_path(self, Pick.SAVE_FILE, "Write the table", proposed, "Table (*.csv)")
        if chosen:
            file = Path(chosen)
            params = MeasureParams(**values, plots=file.with_name(f"{file.stem}_plots"))
            then = self.session.while_open(self._on_measured)
            self.jobs.start("Measuring", measure.run, path, file, params, whole=True, then=then)

    def report(self) -> None:
        """Write a page about all specimens."""
        values, path = self._measured_by(), self.session.current.path
        proposed = str(path.with_suffix(".html"))
        chosen = ask_path(self, Pick.SAVE_FILE, "Write the report", proposed, "Page (*.html)")
        if chosen:
            self.jobs.start(
                "Writing the report",
                report.run,
                path,
                Path(chosen),
                ReportParams(**values),
                whole=True,
                then=lambda result: show_done(
                    f"{counted(result.specimens, 'fossil')} reported: {result.file}.",
                    ("Open report", partial(open_report, result.file)),
                ),
            )

    def _measured_by(self) -> dict[str, Any]:
        """Return how meshes are made and measured, as the forms say."""
        shown = self.measuring.read().model_dump(include=set(self.measuring.rows))
        return self.meshing.read().model_dump() | shown

    def _on_measured(self, result: Any) -> None:
        fossils = counted(len(result.rows), "fossil")
        show_done(f"{fossils} measured: the table is {result.file}, more tables lie beside it.")
        self.assumed.setText("<br>".join(map(escape, (*result.warnings, *result.assumed))))
        self.assumed.show()

    def orient(self) -> None:
        """Keep the angles of block and bedding with the project."""
        project, params = self.session.writable, self.orienting.read()
        done = "The angles are kept. Measure again, and directions are those of the rock."
        then = self.session.while_open(lambda _: show_done(done))
        self.jobs.start("Keeping the angles", orient.run, project.path, params, then=then)


def in_mm(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with volume and surface in mm too, easier to compare than in um."""
    volume, surface = record.get("volume_um3"), record.get("surface_um2")
    return {
        **record,
        "volume_mm3": None if volume is None else float(volume) / 1e9,
        "surface_mm2": None if surface is None else float(surface) / 1e6,
    }
