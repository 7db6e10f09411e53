"""The page *Morphospace*: fossils compared by their looks, mapped, sorted and named."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap, QShowEvent
from qtpy.QtWidgets import QComboBox, QCompleter, QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.embedding import Embedding
from napari_fossiledit.params.base import Params
from napari_fossiledit.params.morphospace import (
    ClassifyParams,
    ClusterParams,
    DisparityParams,
    EmbedParams,
    ItemParams,
    MapParams,
    MetricParams,
    NameParams,
    Naming,
    PointsParams,
    SimilarParams,
)
from napari_fossiledit.params.reconstruct import BEST_KNOWN
from napari_fossiledit.project import ANNOTATIONS
from napari_fossiledit.widgets.canvas import correcting
from napari_fossiledit.widgets.canvas.layers import Role, find, set_map_features, shown_source
from napari_fossiledit.widgets.common.fold import Fold
from napari_fossiledit.widgets.common.forms import ParamsForm
from napari_fossiledit.widgets.common.job_runner import JobRunner, JobSpec
from napari_fossiledit.widgets.common.model_choices import Choice
from napari_fossiledit.widgets.common.notices import counted, show_done
from napari_fossiledit.widgets.common.paths import Pick, ask_path
from napari_fossiledit.widgets.dock import Dock, beside, button, fold, note, section
from napari_fossiledit.widgets.morphospace.map_panel import MapPanel
from napari_fossiledit.widgets.morphospace.reading import NOTHING, Mapped, read_mapped
from napari_fossiledit.workflows.morphospace.alike import Listed, similar
from napari_fossiledit.workflows.morphospace.lay_out import (
    DisparityResult,
    MapResult,
    disparity,
    lay_out,
)
from napari_fossiledit.workflows.morphospace.name import NameResult, export_names, name
from napari_fossiledit.workflows.morphospace.points import results_folder
from napari_fossiledit.workflows.morphospace.sort import (
    ClassifyResult,
    ClusterResult,
    classify,
    cluster,
)
from napari_fossiledit.workflows.morphospace.train import MODELS, embed, train_and_embed
from napari_fossiledit.workflows.shared.sources import marked, shown_sources

TITLE = "Morphospace"
EMPTY = (
    "<b>No project is open.</b><br>Here fossils become points on a map: those that look alike lie "
    'near one another, and can be named together. Open a project on the page "Start here" first.'
)
#: The page works on one set of points; others are for the command line.
_POINTS = "embedding"
_NOTHING = (
    "There is no fossil to compare yet. Have a model find some on the page Segment, or trace some "
    "on the page Review."
)
_NO_POINTS = "The fossils are not compared yet: press Embed above. Then they can be mapped."
_NO_MAP = "The fossils are compared. Make the map now: those that look alike will lie together."
_LABELS = {
    "named_by": "Names are",
    "class_name": "Class only",
    "smallest": "Smallest (px)",
    "per": "A point for each",
}
#: Width in pixels of a chart in the narrowest page.
_PICTURE = 280
_RARE = ("class_name", "smallest", "filling", "device")


class MorphospaceDock(Dock):
    """Compare fossils by their looks, map them, sort and name them."""

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer, TITLE, EMPTY)
        self._reader = JobRunner(self)
        self._reader.failed.connect(self._on_unreadable)
        self._colour_next, self._stale = "", True
        self._told: set[str] = set()
        self._build_comparing()
        self._build_map(section(self.column, "2. Map"))
        self._build_naming(section(self.column, "3. Sort and name"))
        self._build_disparity(fold(self.column, "Disparity"))
        more = fold(self.column, "How to map, group and classify")
        self.mapping = ParamsForm(MapParams, hidden=(_POINTS, "colour", "seed"))
        self.grouping = ParamsForm(
            ClusterParams, hidden=(_POINTS, "seed"), labels={"least": "Fewest in a cluster"}
        )
        self.classifying = ParamsForm(ClassifyParams, hidden=(_POINTS, "seed"))
        for title, form in (
            ("<b>Map</b>", self.mapping),
            ("<b>Cluster</b>", self.grouping),
            ("<b>Classify</b>", self.classifying),
        ):
            more.addWidget(note(title))
            more.addWidget(form)
        for signal in (
            self.session.annotations_changed,
            self.session.predictions_changed,
            self.session.specimens_changed,
            self.session.edits_changed,
        ):
            signal.connect(self._on_changed)
        self._on_project()

    # ----------------------------------------------------------------- layout

    def _build_comparing(self) -> None:
        self.embedding = ParamsForm(
            EmbedParams,
            advanced=_RARE,
            hidden=(_POINTS,),
            choices={"instances": self._sources, "model": self._models},
            labels=_LABELS,
        )
        self.embedder = button(
            "Embed",
            "Describe each fossil by numbers, so that those that look alike get similar ones.",
            self.embed,
        )
        self.hint = note("")
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.embedding)
        column.addWidget(self.embedder)
        self.learner = button(
            "Learn what tells the names apart",
            "Learn from the fossils that have a name in what those of one name are alike, then "
            "describe all by that. It takes minutes; what was learned is then offered as a model.",
            self.learn,
        )
        column.addWidget(self.learner)
        self.comparing = Fold("1. Compare the fossils", inside, bold=True)
        self.column.addWidget(self.comparing)
        self.column.addWidget(self.hint)

    def _build_map(self, inside: QVBoxLayout) -> None:
        by = QComboBox()
        by.setToolTip("What the colours of the points tell.")
        by.setAccessibleName("Colours")
        self.mapper = button(
            "Make the map",
            "Lay the fossils out in a plane; new ones are placed among those on the map.",
            self.make_map,
        )
        inside.addWidget(beside(self.mapper, by))
        self.map = MapPanel(self.session, by)
        self.map.chosen_changed.connect(self._on_chosen)
        inside.addWidget(self.map)

    def _build_naming(self, inside: QVBoxLayout) -> None:
        self.cluster_button = button(
            "Cluster", "Group the fossils by their looks, whatever their names.", self.cluster
        )
        self.classify_button = button(
            "Classify",
            "Compare fossils with those that have a name; what is like none stays unknown.",
            self.classify,
        )
        self.alike_button = button(
            "Most similar",
            "Choose the fossils that look most like the ringed one.",
            self.similar,
        )
        inside.addWidget(beside(self.cluster_button, self.classify_button, self.alike_button))
        self.name = QLineEdit()
        self.name.setPlaceholderText("new name")
        self.name.setAccessibleName("Name")
        self.naming = QComboBox()
        self.naming.addItem("as class", Naming.CLASS)
        self.naming.addItem("as texture", Naming.TEXTURE)
        self.naming.setToolTip("What the name tells: the class of a fossil, or how it is made.")
        self.naming.setAccessibleName("Kind of name")
        self.naming.currentIndexChanged.connect(self._offer_names)
        inside.addWidget(beside(self.name, self.naming))
        self.namer = button(
            "Name the chosen",
            "Give the chosen masks this name, as one change that can be undone.",
            self.name_chosen,
        )
        self.name.returnPressed.connect(self.namer.click)
        self.exporter = button(
            "Export names ...", "Write all names into a table (CSV).", self.export
        )
        inside.addWidget(beside(self.namer, self.exporter))

    def _build_disparity(self, inside: QVBoxLayout) -> None:
        self.measuring = ParamsForm(DisparityParams, hidden=(_POINTS, "seed", "draws"))
        self.measurer = button(
            "Measure", "Measure how diverse the forms of each class and slice are.", self.measure
        )
        self.pictures = QComboBox()
        self.pictures.setAccessibleName("Picture")
        self.pictures.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.pictures.currentIndexChanged.connect(self._show_picture)
        self.picture = QLabel()
        for widget in (self.measuring, self.measurer, self.pictures, self.picture):
            inside.addWidget(widget)

    def _sources(self) -> list[str]:
        project = self.session.project
        names = shown_sources(project) if project is not None else []
        named = [Choice.of(n, marked(project, n) if project else "") for n in names]
        return [Choice.named(BEST_KNOWN, "yours, else predictions"), *named]

    def _models(self) -> list[str]:
        project = self.session.project
        folder = results_folder(project.path) / MODELS if project is not None else None
        trained = sorted(p.name for p in folder.glob("*") if p.is_dir()) if folder else []
        return [Choice.named("", "lite, not trained on these"), *trained]

    # ---------------------------------------------------------------- showing

    def refresh(self) -> None:
        """Read the map of the project that is open now."""
        self._reader.abandon()
        self._told.clear()
        self.map.show_mapped(NOTHING)
        self.pictures.clear()
        self.picture.hide()
        self.pictures.hide()
        self._on_changed()

    def showEvent(self, event: QShowEvent | None) -> None:  # noqa: N802
        """Read what was changed while it was hidden."""
        super().showEvent(event)
        if self._stale:
            self._on_changed()

    def _on_changed(self) -> None:
        """Read the points again, and their names: now where they are in view."""
        self._stale = True
        project = self.session.project
        if project is None or not self.isVisible():
            return
        self._stale = False
        self.embedding.refresh()
        has_source = bool(project.ledger.sources())
        has_points = (results_folder(project.path) / f"{_POINTS}.npz").exists()
        self.embedder.setEnabled(has_source)
        self.learner.setEnabled(has_source)
        self._enable(has_points)
        self.say("" if has_points else _NO_POINTS if has_source else _NOTHING)
        if not has_points:
            self.comparing.open()
            self.map.show_mapped(NOTHING)
            return
        self._reader.abandon()
        job = JobSpec("Reading the map", read_mapped, (project.path, _POINTS), in_process=False)
        self._reader.start(job, self.session.while_open(self._on_read))

    def say(self, text: str) -> None:
        """Say what is to be done next; nothing where it is empty."""
        self.hint.setText(text)
        self.hint.setVisible(bool(text))

    def _enable(self, has_points: bool) -> None:
        for each in (self.mapper, self.cluster_button, self.classify_button):
            each.setEnabled(has_points)
        for each in (self.exporter, self.measurer):
            each.setEnabled(has_points)
        self._on_chosen()

    def _on_read(self, mapped: Mapped) -> None:
        by, self._colour_next = self._colour_next, ""
        self.map.show_mapped(mapped, by=by)
        self.say("" if mapped.keys else _NO_MAP)
        if mapped.keys:
            self.comparing.shut()
        self.naming.setCurrentIndex(self.naming.findData(Naming(mapped.named_by or "class")))
        self._offer_names()
        # For plugins that read the table of a layer.
        shown = {Role.LABELS: ANNOTATIONS, Role.PREDICTIONS: shown_source(self.session)}
        for role, source in shown.items():
            layer = find(self.session.viewer, role)
            if isinstance(layer, Labels):
                set_map_features(layer, mapped.features(source))

    def _on_unreadable(self, error: FossilError) -> None:
        self.map.show_mapped(NOTHING)
        self.say(str(error))
        self.comparing.open()

    def _on_chosen(self) -> None:
        self.namer.setEnabled(bool(len(self.map.chosen)))
        self.alike_button.setEnabled(bool(self.map.mapped.keys))

    def _offer_names(self) -> None:
        known = self.map.mapped.names[str(self.naming.currentData())]
        completer = QCompleter(known, self.name)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.name.setCompleter(completer)

    # ---------------------------------------------------------------- actions

    def _run(
        self,
        title: str,
        function: Callable[..., Any],
        params: Params,
        then: Callable[[Any], None],
        *more: Params,
        in_process: bool = True,
    ) -> None:
        """Start a workflow on the points."""
        then, path = self.session.while_open(then), self.session.current.path
        self.jobs.start(title, function, path, params, *more, in_process=in_process, then=then)

    def _tell(
        self, text: str, result: Any, action: tuple[str, Callable[[], object]] | None = None
    ) -> None:
        """Show what was done, and of the notes of its result those that were not shown before."""
        new = [each for each in result.notes if each not in self._told]
        self._told.update(new)
        show_done("\n".join((text, *new)), action)

    def embed(self) -> None:
        """Describe the fossils by numbers, in a process of its own."""
        self.session.current.require_writable()
        self._run("Embedding", embed, self.embedding.read(), self._on_embedded)

    def learn(self) -> None:
        """Learn what tells the named fossils apart and describe all by it, in one process."""
        self.session.current.require_writable()
        points, taken = self.embedding.read(), set(map(str, self._models()))
        model = next(n for n in (f"learned-{k}" for k in count(1)) if n not in taken)
        shared = points.model_dump(include={*ItemParams.model_fields})
        params = MetricParams(**shared, name=model)
        self._run("Learning", train_and_embed, params, self._on_embedded, points)

    def _on_embedded(self, result: Embedding) -> None:
        masks = counted(len(result.items), "mask")
        self._tell(f"{masks} compared by {result.model}. Make the map next.", result)
        self._on_changed()

    def make_map(self) -> None:
        """Lay the fossils out in a plane, in a process of its own."""
        self.session.current.require_writable()
        self._run("Making the map", lay_out, self.mapping.read(), self._on_map)

    def _on_map(self, result: MapResult) -> None:
        self._tell(f"{counted(result.items, 'mask')} are on the map.", result)
        self._on_changed()

    def cluster(self) -> None:
        """Group the fossils by their looks alone."""
        self._run("Clustering", cluster, self.grouping.read(), self._on_clustered)

    def _on_clustered(self, result: ClusterResult) -> None:
        alone = f" {result.in_none} are in none." if result.in_none else ""
        apart = "" if result.silhouette is None else f" (silhouette {result.silhouette:.2f})"
        self._tell(f"{counted(len(result.sizes), 'cluster')}{apart}.{alone}", result)
        self._colour_next = "Cluster"
        self._on_changed()

    def classify(self) -> None:
        """Compare the fossils with those that have a name."""
        self._run("Classifying", classify, self.classifying.read(), self._on_classified)

    def _on_classified(self, result: ClassifyResult) -> None:
        told = [f"{count} {each}" for each, count in result.answers.items()]
        told += [f"{result.unknown} unknown"] if result.unknown else []
        self._tell(
            f"Without a name: {', '.join(told) or 'none'}. Of {result.named} with a name, "
            f"{result.accuracy:.0%} were told right by the others.",
            result,
        )
        self._colour_next = "Classified as"
        self._on_changed()

    def similar(self) -> None:
        """Choose the fossils that look most like the ringed one, or like the chosen ones."""
        ringed = self.map.ringed
        rows = np.array([ringed]) if ringed >= 0 else self.map.chosen
        if not len(rows):
            raise FossilError("No fossil is chosen", advice="Click a point on the map first.")
        params = SimilarParams(items=self.map.ids(rows))
        self._run("Looking for similar ones", similar, params, self._on_similar, in_process=False)

    def _on_similar(self, result: Listed) -> None:
        at = {key: row for row, key in enumerate(self.map.mapped.keys)}
        if not result.rows:
            self._tell("There is no other fossil to compare with.", result)
            return
        rows = [at[row["key"]] for row in result.rows if row["key"] in at]
        self.map.choose(np.array(rows, np.intp))
        most, least = (result.rows[n]["similarity"] for n in (0, -1))
        self._tell(
            f"{counted(len(rows), 'mask')} that look most alike are chosen; "
            f"similarity {most:.2f} to {least:.2f} of 1.",
            result,
        )

    def name_chosen(self) -> None:
        """Give the chosen masks a name, as one change that can be undone."""
        self.session.current.require_writable()
        if not self.name.text().strip():
            raise FossilError("The name is empty", advice="Type one in the line above.")
        params = NameParams(
            name=self.name.text(),
            items=self.map.ids(self.map.chosen),
            naming=self.naming.currentData(),
        )
        self._run("Naming", name, params, self._on_named, in_process=False)

    def _on_named(self, result: NameResult) -> None:
        correcting.show_labels(self.session)
        correcting.reload(self.session)
        told = ", ".join(
            f"{counted(count, 'mask')} named {each}" for each, count in result.given.items()
        )
        left = f" {result.reviewed} found right stay as they are." if result.reviewed else ""
        self._tell(f"{told}.{left}", result, correcting.undo_of_newest(self.session))
        self._colour_next = "Texture" if result.naming == Naming.TEXTURE else "Class"
        self.session.annotations_changed.emit()

    def export(self) -> None:
        """Write all names into a table."""
        project = self.session.current
        proposed = str(project.path.parent / f"{project.path.stem}-names.csv")
        chosen = ask_path(self, Pick.SAVE_FILE, "Write the names", proposed, "Table (*.csv)")
        if chosen:
            self.jobs.start(
                "Writing names",
                export_names,
                project.path,
                Path(chosen),
                PointsParams(),
                in_process=False,
                then=lambda result: self._tell(
                    f"{counted(result.rows, 'name')} written: the table is {result.file}.", result
                ),
            )

    def measure(self) -> None:
        """Measure how diverse the forms are, and draw it."""
        self._run("Measuring", disparity, self.measuring.read(), self._on_measured)

    def _on_measured(self, result: DisparityResult) -> None:
        self._tell(f"The figures are in {result.file}.", result)
        self.pictures.clear()
        for path in result.pictures:
            self.pictures.addItem(path.stem.split("disparity-")[-1].replace("-", " "), str(path))
        self.pictures.show()

    def _show_picture(self) -> None:
        path = self.pictures.currentData()
        if path:
            drawn = QPixmap(path)
            smooth = Qt.TransformationMode.SmoothTransformation
            self.picture.setPixmap(drawn.scaledToWidth(_PICTURE, smooth))
            self.picture.show()
