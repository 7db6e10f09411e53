"""The page Morphospace: points are chosen with the mouse, shown in the canvas, sorted and named."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QColor
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QFileDialog

from napari_fossiledit.errors import FossilError
from napari_fossiledit.morphospace.embedding import Embedding, Item, content_of
from napari_fossiledit.params.morphospace import MapParams, Projection
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.canvas.colours import colours_of
from napari_fossiledit.widgets.canvas.layers import Role, find
from napari_fossiledit.widgets.canvas.project_view import attach
from napari_fossiledit.widgets.common import notices
from napari_fossiledit.widgets.common.colouring import SAFE, coloured
from napari_fossiledit.widgets.morphospace.morphospace_dock import TITLE, MorphospaceDock
from napari_fossiledit.widgets.morphospace.reading import EDGE
from napari_fossiledit.widgets.morphospace.scatter import Scatter
from napari_fossiledit.widgets.start.window import open_window
from napari_fossiledit.workflows.morphospace.lay_out import lay_out
from napari_fossiledit.workflows.reef import link
from tests.widgets.conftest import SOURCE, settled
from tests.widgets.user import User

LEFT, NO_KEY = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


def drag(scatter, places, key=NO_KEY):
    QTest.mousePress(scatter, LEFT, key, places[0])
    for place in places[1:]:
        QTest.mouseMove(scatter, place)
    QTest.mouseRelease(scatter, LEFT, key, places[-1])


def around(scatter, rows):
    """Return a box in the widget around the points of these rows."""
    places = scatter.on_screen()[rows]
    (x0, y0), (x1, y1) = places.min(axis=0) - 6, places.max(axis=0) + 6
    corners = ((x0, y0), (x1, y0), (x1, y1), (x0, y1))
    return [QPoint(round(x), round(y)) for x, y in corners]


def point(scatter, row):
    return QPoint(*scatter.on_screen()[row].round().astype(int).tolist())


# ------------------------------------------------------------------- scatter


@pytest.fixture
def scatter(qtbot):
    made = Scatter()
    qtbot.addWidget(made)
    made.resize(300, 240)
    # Two heaps, far apart.
    made.show_points(np.array([(0, 0), (1, 1), (0, 1), (9, 9), (10, 10)], float))
    made.show()
    return made


def test_a_drag_around_points_chooses_them_and_shift_adds(scatter):
    got = []
    scatter.lassoed.connect(lambda rows: (got.append(rows.tolist()), scatter.choose(rows)))
    drag(scatter, around(scatter, [0, 1, 2]))
    drag(scatter, around(scatter, [4]), Qt.KeyboardModifier.ShiftModifier)
    drag(scatter, around(scatter, [3, 4]))
    QTest.keyClick(scatter, Qt.Key.Key_Escape)
    assert got == [[0, 1, 2], [0, 1, 2, 4], [3, 4], []]


def test_a_lasso_takes_what_is_inside_of_it_and_not_of_its_box(scatter):
    got = []
    scatter.lassoed.connect(lambda rows: got.append(rows.tolist()))
    corners = [point(scatter, row) for row in (0, 4)]
    away = QPoint(20, 20)
    # A narrow band along the diagonal: point 2 lies beside it.
    drag(scatter, [corners[0] - away / 4, corners[1] - away / 4, corners[1] + away, corners[0]])
    assert 4 in got[0]
    assert 2 not in got[0]


def test_a_click_names_the_nearest_point_and_beside_all_of_them_chooses_none(scatter):
    clicked, lassoed = [], []
    scatter.clicked.connect(clicked.append)
    scatter.lassoed.connect(lambda rows: lassoed.append(rows.tolist()))
    QTest.mouseClick(scatter, LEFT, NO_KEY, point(scatter, 3) + QPoint(3, 0))
    QTest.mouseClick(scatter, LEFT, NO_KEY, QPoint(5, 5))
    assert clicked == [3]
    assert lassoed == [[]]


def test_y_grows_upwards_and_distances_have_one_scale(scatter):
    (x0, y0), (x1, y1) = scatter.on_screen()[[0, 4]]
    assert x1 > x0
    assert y1 < y0
    assert x1 - x0 == pytest.approx(y0 - y1)


def test_points_are_painted_in_their_colours_and_others_pale_while_some_are_chosen(scatter):
    scatter.colour(np.array([0, 0, 0, 1, 1]), [QColor("red"), QColor("blue")])
    scatter.choose(np.array([4]))
    seen = scatter.grab().toImage()
    assert seen.pixelColor(point(scatter, 4)).blue() == 255
    pale, ground = (seen.pixelColor(p).green() for p in (point(scatter, 0), QPoint(5, 5)))
    assert 0 < ground - pale < 128


# ----------------------------------------------------------------- colouring


def of_specimen(number):
    return (0.5, 0.25, number / 10)


def test_the_most_frequent_kinds_get_colours_that_everybody_tells_apart():
    values = ["a", "b", "a", None, *"cdefgh"]
    made = coloured("Class", values, of_specimen)
    assert [made.palette[k].name() for k in made.kinds[:2]] == list(SAFE[:2])
    assert "a&nbsp;(2)" in made.legend
    assert "3&nbsp;others&nbsp;(3)" in made.legend
    assert "none&nbsp;(1)" in made.legend
    assert len({made.palette[k].name() for k in made.kinds}) == len(SAFE) + 1


def test_specimens_have_their_colours_of_3d_and_amounts_go_from_dark_to_light():
    made = coloured("Specimen", [3, None, 3], of_specimen)
    assert made.palette[made.kinds[0]] == QColor.fromRgbF(*of_specimen(3))
    made = coloured("Slice", [0, 7, 15, None], of_specimen)
    assert made.kinds[0] < made.kinds[1] < made.kinds[2] < made.kinds[3]
    assert "0 " in made.legend
    assert " 15" in made.legend


# --------------------------------------------------------------------- page


@pytest.fixture
def mapped_path(project_path):
    """The toy project with a map of its annotations: two heaps, by kind of mask."""
    with Project.open(project_path) as project:
        own = project.ledger.instances(ANNOTATIONS)
        found = [i for z in (0, 2) for i in project.ledger.instances(SOURCE, slices=[z])]
    every = [*own, *found]
    random = np.random.default_rng(0)
    big = np.array([[i.mask.area > 150] for i in every])
    vectors = np.hstack([big, ~big, 0.05 * random.normal(size=(len(every), 4))]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    items = tuple(
        Item(f"{i.slice}/{i.id}", f"{i.slice}/{i.id}", i.class_name, i.slice, i.id, i.specimen,
             content_of(i.mask))
        for i in every
    )  # fmt: skip
    embedding = Embedding(vectors, items, "lite", "0" * 64, named_by="class")
    (project_path / "morphospace").mkdir()
    embedding.save(project_path / "morphospace" / "embedding.npz")
    lay_out(project_path, MapParams(method=Projection.PCA))
    return project_path


def read(page, qtbot):
    qtbot.waitUntil(lambda: not (page._reader.is_running or page.jobs.runner.is_running))
    QApplication.processEvents()


@pytest.fixture
def page(mapped_path, session, made, qtbot):
    dock = made(MorphospaceDock)
    dock.show()
    settled(session)
    read(dock, qtbot)
    return dock


def own_rows(page):
    return np.flatnonzero([s == ANNOTATIONS for s in page.map.mapped.sources])


def test_a_project_without_points_says_what_to_do(session, made):
    dock = made(MorphospaceDock)
    dock.show()
    settled(session)
    assert "press Embed" in dock.hint.text()
    assert not dock.mapper.isEnabled()
    assert dock.map.isHidden()


def test_the_steps_start_their_workflows_with_the_settings(session, made, calls):
    calls.result = SimpleNamespace(items=(), model="lite", notes=())
    dock = made(MorphospaceDock)
    dock.embed()
    dock.learn()
    training, points = calls.made[-1][1][1:]
    assert (training.name, points.named_by) == ("learned-1", training.named_by)
    calls.result = SimpleNamespace(items=4, notes=())
    dock.make_map()
    calls.result = SimpleNamespace(sizes=(3, 2), in_none=1, silhouette=0.5, notes=())
    dock.cluster()
    calls.result = SimpleNamespace(
        answers={"shell": 2}, unknown=1, named=4, accuracy=0.75, notes=("A note.",)
    )
    dock.classify()
    assert [name for name, _ in calls.made] == [
        "morphospace.train.embed",
        "morphospace.train.train_and_embed",
        "morphospace.lay_out.lay_out",
        "morphospace.sort.cluster",
        "morphospace.sort.classify",
    ]
    assert all(calls.in_process)
    said = notices.VOICE.messages[-1].text
    assert "2 shell, 1 unknown" in said
    assert said.endswith("A note.")


def test_what_is_chosen_is_outlined_in_the_canvas_and_told(page, session):
    page.map.choose(np.arange(4))
    told = page.map.mapped
    assert f"4 of {len(told.keys)} chosen" in page.map.text.text()
    ids = {i.id for i in told.instances[:4]}
    assert set(colours_of(session)._chosen.tolist()) == ids
    assert page.namer.isEnabled()
    attach(session).selection.escape()
    assert not len(page.map.chosen)
    assert not page.namer.isEnabled()


def test_specimens_chosen_in_a_table_are_chosen_on_the_map(page, session, qtbot):
    link.run(session.current.path, LinkParams(source=SOURCE))
    session.specimens_changed.emit()
    colours = colours_of(session)
    qtbot.waitUntil(lambda: bool(colours.specimens))
    read(page, qtbot)
    (key,) = {colours.linked_specimen(i) for i in page.map.mapped.instances} - {None}
    colours.choose((), {key})
    (first, second) = page.map.chosen
    assert {page.map.mapped.sources[row] for row in (first, second)} == {SOURCE}
    assert "of 1 fossil." in page.map.text.text()
    # One section stands for its specimen in 3D; a mask of another source with that number not.
    page.map.choose(np.array([first]))
    assert colours.chosen_specimens == {key}
    page.map.choose(own_rows(page))
    assert colours.chosen_specimens == set()


def test_a_click_goes_to_the_slice_and_picks_and_a_pick_is_ringed(page, session, qtbot):
    row = int(own_rows(page)[-1])
    item = page.map.mapped.instances[row]
    page.map.scatter.clicked.emit(row)
    settled(session)
    assert session.slice == item.slice
    assert attach(session).selection.picked.instance.id == item.id
    assert page.map.ringed == row
    predicted = int(np.flatnonzero([s == SOURCE for s in page.map.mapped.sources])[1])
    # The model doubts it: the page shows it nevertheless.
    page.map.scatter.clicked.emit(predicted)
    settled(session)
    assert attach(session).selection.picked.instance.id == page.map.mapped.instances[predicted].id
    assert page.map.ringed == predicted


def test_naming_is_one_change_that_can_be_undone(page, session, qtbot):
    rows = own_rows(page)[:3]
    page.map.choose(rows)
    page.name.setText("coral")
    page.namer.click()
    read(page, qtbot)
    ids = {page.map.mapped.instances[row].id for row in rows}

    def named():
        own = session.current.ledger.instances(ANNOTATIONS)
        return {i.id for i in own if i.class_name == "coral"}

    assert named() == ids
    assert page.map.by.currentText() == "Class"
    assert "coral" in page.map.legend.text()
    assert set(page.map.chosen) == set(rows)
    message = notices.VOICE.messages[-1]
    assert "3 masks named coral" in message.text
    assert message.action[0] == "Undo"
    message.action[1]()
    assert named() == set()


def test_an_empty_name_is_refused(page):
    page.map.choose(np.arange(2))
    with pytest.raises(FossilError, match="name is empty"):
        page.name_chosen()


def test_most_similar_chooses_those_of_the_same_heap(page, qtbot):
    with pytest.raises(FossilError, match="No fossil is chosen"):
        page.similar()
    page.map.choose(np.array([0]))
    page.similar()
    read(page, qtbot)
    assert "look most alike are chosen" in notices.VOICE.messages[-1].text
    assert len(page.map.chosen) > 1
    assert 0 not in page.map.chosen


def test_layers_carry_the_map_as_features(page, session):
    layer = find(session.viewer, Role.LABELS)
    own = own_rows(page)
    by_id = layer.features.set_index("index")
    item = page.map.mapped.instances[own[0]]
    assert by_id.loc[item.id, "x"] == pytest.approx(page.map.mapped.places[own[0]][0])
    assert by_id.loc[item.id, "slice"] == item.slice
    # Of all slices, not only the one on show.
    assert len(by_id) == len(own) + 1


def test_the_mouse_on_a_point_shows_a_picture_of_its_mask(page, qtbot):
    QTest.mouseMove(page.map.scatter, point(page.map.scatter, 0))
    QApplication.processEvents()
    qtbot.waitUntil(lambda: page.map.scatter._shown[0] is not None)
    picture, text = page.map.scatter._shown
    assert (picture.width(), picture.height()) == (EDGE, EDGE)
    # The disk is light, see the photographs of the toy project.
    assert picture.pixelColor(EDGE // 2, EDGE // 2).red() > 150
    assert f"slice {page.map.mapped.instances[0].slice}" in text


def test_names_are_exported(page, qtbot, monkeypatch, tmp_path):
    out = tmp_path / "names.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    page.export()
    read(page, qtbot)
    with out.open(encoding="utf-8-sig") as file:
        assert len(list(csv.DictReader(file))) == len(page.map.mapped.keys)


def test_a_lasso_in_the_window_with_the_mouse(qapp, mapped_path):
    viewer = open_window(mapped_path)
    try:
        user = User(viewer)
        user.goes_to(TITLE)
        user.until(lambda: len(user.page.map.mapped.keys))
        scatter = user.page.map.scatter
        sizes = np.array([i.mask.area for i in user.page.map.mapped.instances])
        drag(scatter, around(scatter, np.flatnonzero(sizes > 150)))
        assert set(user.page.map.chosen) == set(np.flatnonzero(sizes > 150))
        user.reads(r"\d+ of \d+ chosen, in \d slices")
        user.types("Name", "coral")
        user.presses("Name the chosen")
        user.reads("named coral")
    finally:
        viewer.close()
