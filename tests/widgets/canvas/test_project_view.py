"""The project in a real viewer: what is shown, painted, hidden, and turned."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from napari.layers import Layer
from napari.utils._proxies import PublicOnlyProxy

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.project import ANNOTATIONS, Ledger, Project
from napari_fossiledit.stacks import reduce
from napari_fossiledit.widgets.canvas import correcting, navigation
from napari_fossiledit.widgets.canvas.correcting import show_labels
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    describe,
    find,
    prediction_array,
    show_predictions,
)
from napari_fossiledit.widgets.canvas.project_view import attach, open_project
from napari_fossiledit.widgets.canvas.readers import PROJECT, read_project
from napari_fossiledit.widgets.canvas.regions import draw_area, drawn_area
from napari_fossiledit.widgets.canvas.view3d import face_camera
from napari_fossiledit.widgets.common import notices
from napari_fossiledit.widgets.common.compat import camera_of
from napari_fossiledit.widgets.common.session import session_of
from tests.widgets.conftest import SHAPE, found, settled

SOURCE = "model:first:0123456789ab"


def box(y0: int, x0: int, y1: int, x1: int) -> Mask:
    return Mask.from_crop(np.ones((y1 - y0, x1 - x0), bool), (y0, x0), SHAPE[1:])


def test_a_viewer_has_one_session_also_through_the_proxy_that_plugins_get(viewer):
    assert session_of(viewer) is session_of(PublicOnlyProxy(viewer))


def test_without_a_project_the_message_tells_what_to_do(viewer):
    with pytest.raises(FossilError, match="Start here"):
        session_of(viewer).current  # noqa: B018


def test_the_photographs_are_shown_in_um(session):
    layer = find(session.viewer, Role.IMAGE)
    assert layer is not None
    assert layer.rgb
    np.testing.assert_allclose(layer.scale, (500, 70, 70))
    assert [str(u) for u in layer.units] == ["micrometer"] * 3
    assert tuple(session.viewer.dims.axis_labels) == ("z", "y", "x")


def test_closing_the_project_takes_its_layers_away(session):
    session.viewer.add_points(np.zeros((1, 3)), name="mine")
    session.close()
    assert [layer.name for layer in session.viewer.layers] == ["mine"]


@pytest.mark.parametrize("docks_first", [True, False])
def test_a_dropped_project_is_taken_over(viewer, project_path, qtbot, docks_first):
    session = session_of(viewer)
    if docks_first:
        attach(session)
    for data, options, kind in read_project(str(project_path)):
        viewer.add_layer(Layer.create(data, options, kind))
    attach(session).adopt_layers()
    qtbot.waitUntil(lambda: session.project is not None)
    assert session.current.path == project_path
    assert [lay.metadata.get(PROJECT) for lay in viewer.layers] == [None] * len(viewer.layers)
    assert find(viewer, Role.IMAGE) is not None
    session.close()


def test_an_unusable_folder_leaves_the_open_project_open(session, tmp_path):
    before = session.project
    with pytest.raises(FossilError, match="is no project"):
        open_project(session, tmp_path)
    assert session.project is before


def test_predictions_lie_over_the_photographs(session):
    layer = show_predictions(session, SOURCE, 0.5)
    session.go_to(2)
    shown = np.asarray(layer.data[2])
    ids = [i.id for i in session.current.ledger.instances(SOURCE, slices=[2], min_score=0.5)]
    assert set(np.unique(shown)) == {0, *ids}
    assert not layer.editable


def test_the_next_slice_on_the_way_is_made_ready(session, monkeypatch, qtbot):
    source, read = "model:second:0123456789ab", []
    ledger = session.current.ledger
    instances = Ledger.instances

    def reading(self, source, **options):
        read.append((source, *options.get("slices", ())))
        return instances(self, source, **options)

    monkeypatch.setattr(Ledger, "instances", reading)
    for z in (1, 2):
        ledger.store(source, z, [Instance(z, "archaeocyathid", box(5, 5, 20, 20), 0.9)])
    layer = show_predictions(session, source, 0.5)
    session.go_to(1)
    qtbot.waitUntil(lambda: (source, 2) in read)
    session.go_to(2)
    assert read.count((source, 2)) == 1
    assert layer._slice.image.raw.any()
    # Of a slice that has no predictions yet nothing is kept: they may come.
    session.go_to(1)
    qtbot.waitUntil(lambda: session.view._turn == 3)
    ledger.store(source, 0, [Instance(0, "archaeocyathid", box(5, 5, 20, 20), 0.9)])
    session.go_to(0)
    assert layer._slice.image.raw.any()


def test_status_tells_class_and_score(session):
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    describe(layer, prediction_array(layer).painted(2).instances)
    inside = layer.data_to_world((2, 15, 17))
    assert "class: archaeocyathid, score: 0.90" in layer.get_status(inside, world=True)["value"]
    outside = layer.data_to_world((2, 0, 0))
    assert layer.get_status(outside, world=True)["value"] == "0"


def test_a_stroke_is_in_the_project_at_once_and_shows_no_other_slice(session, project_path, qtbot):
    value = correcting.new_instance(session)
    layer = show_labels(session)
    z = session.slice
    layer.brush_size = 6
    with layer.block_history():
        layer.paint((z, 20, 30), value, refresh=False)
        layer.paint((z, 22, 30), value)
    with Project.open(project_path, read_only=True) as again:
        qtbot.waitUntil(lambda: again.instances(ANNOTATIONS, z) != [])
        (made,) = again.instances(ANNOTATIONS, z)
        assert (made.id, made.class_name) == (value, "archaeocyathid")
        np.testing.assert_array_equal(made.mask.to_array(), np.asarray(layer.data[z]) == value)
        assert again.ledger.history(1)[0].what == "paint"


def test_a_value_typed_by_hand_becomes_an_instance_with_an_id_of_its_own(session):
    session.go_to(0)
    layer = correcting.edit(session)
    layer.selected_label = 2**31 - 1
    layer.paint((0, 20, 30), 2**31 - 1)
    correcting.save(session)
    (made,) = session.current.instances(ANNOTATIONS, 0)
    assert made.id < 1000
    assert layer.selected_label == made.id
    assert layer.get_value((0, 20, 30)) == made.id
    assert session.current.ledger.reserve_id() < 1000


def test_strokes_are_kept_when_another_slice_is_shown_or_the_project_closed(
    session, project_path, qtbot
):
    session.go_to(0)
    value = correcting.new_instance(session)
    layer = show_labels(session)
    layer.paint((0, 20, 30), value)
    with qtbot.waitSignal(session.annotations_changed):
        session.go_to(4)
    assert [i.id for i in session.current.instances(ANNOTATIONS, 0)] == [value]
    layer.paint((4, 20, 30), value)
    session.close()
    with Project.open(project_path, read_only=True) as again:
        (other,) = again.instances(ANNOTATIONS, 4)
    assert other.id != value


def test_undo_and_redo_reach_back_over_a_restart_and_show_the_slice(session, project_path):
    session.go_to(0)
    value = correcting.new_instance(session)
    show_labels(session).paint((0, 20, 30), value)
    session.open(project_path)
    session.go_to(3)
    layer = correcting.edit(session)
    keys = {str(k): v for k, v in layer.keymap.items()}
    keys["Ctrl+Z"](layer)
    assert session.slice == 0
    assert session.current.instances(ANNOTATIONS, 0) == []
    assert layer.get_value((0, 20, 30)) == 0
    session.go_to(2)
    keys["Ctrl+Shift+Z"](layer)
    assert session.slice == 0
    assert layer.get_value((0, 20, 30)) == value


def test_what_another_program_did_to_the_slice_stays(session, project_path):
    session.go_to(1)
    layer = correcting.edit(session)
    first, second = (i.id for i in session.current.instances(ANNOTATIONS, 1))
    with Project.open(project_path) as other:
        (new,) = other.ledger.edit(
            1, put=[replace(found(1)[1], mask=box(0, 30, 5, 35))], remove=[second]
        )
    layer.brush_size = 3
    layer.paint((1, 15, 16), 0)
    layer.paint((1, 35, 5), second)
    correcting.save(session)
    now = {i.id: i.mask.area for i in session.current.instances(ANNOTATIONS, 1)}
    assert now.keys() > {first, new}
    assert (now[first], now[new]) == (found(1)[0].mask.area - 9, 25)
    assert layer.get_value((1, 2, 32)) == new
    # The instance was gone: what is painted with its id is new.
    (painted,) = now.keys() - {first, new}
    assert layer.get_value((1, 35, 5)) == painted


def test_what_cannot_be_saved_is_saved_later(session, monkeypatch):
    session.go_to(0)
    value = correcting.new_instance(session)
    layer = show_labels(session)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "revise", raises := Mock(side_effect=FossilError("disk full")))
        layer.paint((0, 20, 30), value)
        session.go_to(1)
        session.go_to(0)
        assert raises.called
        assert layer.get_value((0, 20, 30)) == value
        assert session.current.instances(ANNOTATIONS, 0) == []
    correcting.save(session)
    assert [i.id for i in session.current.instances(ANNOTATIONS, 0)] == [value]


def test_a_damaged_slice_is_named_shown_empty_and_never_overwritten(session, monkeypatch):
    session.go_to(0)
    layer, told = correcting.edit(session), []
    with session.current.ledger.transaction() as db:
        db.execute("UPDATE instances SET counts = x'01' WHERE source = 'annotations' AND z = 3")
    monkeypatch.setattr(correcting, "show_error", lambda error: told.append(str(error)))
    monkeypatch.setattr(notices, "show_error", lambda error: told.append(str(error)))
    session.go_to(3)
    assert "in slice 3" in told[0]
    assert not np.asarray(layer.data[3]).any()
    layer.paint((3, 20, 30), correcting.new_instance(session))
    session.go_to(2)
    assert "in slice 3" in told[-1]
    with session.current.ledger.transaction() as db:
        query = "SELECT count(*) FROM instances WHERE source = 'annotations' AND z = 3"
        assert db.execute(query).fetchone() == (2,)
    layer.paint((2, 20, 30), correcting.new_instance(session))
    with pytest.raises(FossilError, match="in slice 3"):
        correcting.save(session)
    assert len(session.current.instances(ANNOTATIONS, 2)) == 1


def test_only_the_slice_on_show_can_be_painted(session):
    layer = show_labels(session)
    layer.n_edit_dimensions = 3
    assert layer.n_edit_dimensions == 2


def test_every_new_instance_has_an_id_of_its_own(session):
    first, second = correcting.new_instance(session), correcting.new_instance(session)
    layer = find(session.viewer, Role.LABELS)
    assert first != second
    assert layer.selected_label == second
    assert layer.mode == "paint"
    assert correcting.edit(session).mode == "paint"


def test_the_key_m_takes_a_fresh_id_instead_of_naparis_next_number(session):
    layer = show_labels(session)
    keys = {str(k): v for k, v in layer.keymap.items()}
    keys["M"](layer)
    assert layer.selected_label > 8  # ids of predictions and annotations are taken


def test_a_deleted_instance_goes_with_its_cavities_and_comes_back(session):
    session.go_to(0)
    outer, inner = box(10, 10, 30, 30), box(15, 15, 20, 20)
    body = Instance(0, "archaeocyathid", outer, id=-1)
    cavity = Instance(0, "archaeocyathid", inner, part=Part.CAVITY, parent=-1)
    ids = session.current.ledger.edit(0, put=[body, cavity])
    layer = correcting.edit(session)
    assert [layer.get_value((0, y, y)) for y in (12, 17)] == ids
    assert correcting.delete(session, ids[0]) == 400
    assert not np.asarray(layer.data[0]).any()
    correcting.undo(session)
    assert [layer.get_value((0, y, y)) for y in (12, 17)] == ids


def test_deleting_nothing_tells_where_to_point(session):
    with pytest.raises(FossilError, match="no instance under the cursor"):
        correcting.delete(session, 0)


def test_a_read_only_project_is_not_painted(session, project_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    session.open(project_path)
    with pytest.raises(FossilError, match="reading only"):
        correcting.new_instance(session)


def test_steps_go_to_annotated_slices_and_say_where_they_end(session):
    session.go_to(0)
    assert navigation.step(session, 1) == 1
    assert navigation.step(session, 1) == 3
    assert session.slice == 3
    with pytest.raises(FossilError, match="last annotated slice"):
        navigation.step(session, 1)


def test_a_drawn_area_becomes_a_mask(session):
    layer = draw_area(session)
    corners = np.array([[2, 5, 10], [2, 5, 30], [2, 20, 30], [2, 20, 10]], float)
    layer.add_rectangles([corners])
    mask = drawn_area(session, 2)
    assert mask.shape == session.current.slice_shape
    assert mask.box[0] in (5, 6)
    assert 15 * 20 * 0.9 < mask.area < 16.5 * 21.5
    with pytest.raises(FossilError, match="No area is drawn on slice 3"):
        drawn_area(session, 3)


def test_of_large_photographs_only_the_slice_on_show_is_read(viewer, project_path, monkeypatch):
    # So that napari gets a coarse copy beside them, as of photographs of many megapixels.
    monkeypatch.setattr(reduce, "_SMALL_BYTES", 0)
    session = session_of(viewer)
    open_project(session, project_path)
    assert len(find(viewer, Role.IMAGE).data) == 2
    stack, asked = session.current.stack, []
    whole = type(stack).read
    monkeypatch.setattr(type(stack), "read", lambda self, z: asked.append(z) or whole(self, z))
    session.go_to(1)
    assert {*asked} == {1}


def test_3d_reads_no_slice_at_full_resolution(session, monkeypatch):
    show_predictions(session, SOURCE, 0.5)
    show_labels(session)
    stack, asked = session.current.stack, []
    whole = type(stack).read
    monkeypatch.setattr(type(stack), "read", lambda self, z: asked.append(z) or whole(self, z))
    # The reduced copy is read on purpose, in a thread.
    session.viewer.dims.events.ndisplay.disconnect(session.view._on_ndisplay)
    session.viewer.dims.ndisplay = 3
    assert asked == []
    flat = [find(session.viewer, role) for role in (Role.IMAGE, Role.PREDICTIONS, Role.LABELS)]
    assert not any(layer.visible for layer in flat)
    session.viewer.dims.events.ndisplay.connect(session.view._on_ndisplay)


def test_3d_shows_a_reduced_copy_that_follows_the_slice(session, qtbot):
    session.go_to(1)
    with qtbot.waitSignal(session.view.reducing.stopped):
        session.viewer.dims.ndisplay = 3
    settled(session)
    layer = find(session.viewer, Role.REDUCED)
    assert layer.visible
    assert layer.plane.position[0] == 1
    session.go_to(3)
    assert layer.plane.position[0] == 3
    session.viewer.dims.ndisplay = 2
    assert layer not in session.viewer.layers
    assert session.slice == 3
    session.viewer.dims.ndisplay = 3
    assert layer in session.viewer.layers


def test_back_in_2d_the_same_layers_are_shown_again(session):
    predictions = show_predictions(session, SOURCE, 0.5)
    image = find(session.viewer, Role.IMAGE)
    predictions.visible = False
    session.viewer.dims.ndisplay = 3
    session.viewer.dims.ndisplay = 2
    assert image.visible
    assert not predictions.visible


@pytest.mark.parametrize(
    ("direction", "away"), [(ZDirection.INTO, True), (ZDirection.OUT_OF, False)]
)
def test_the_rock_is_seen_as_the_camera_saw_it(viewer, direction, away):
    """Seen along the camera's axis x is right, y is down and slices go away from the observer."""
    viewer.dims.ndisplay = 3
    face_camera(viewer, direction)
    camera_of(viewer).angles = (0, 0, 90)
    looks_along_z = camera_of(viewer).view_direction[0] > 0
    assert looks_along_z == away
    viewer.dims.ndisplay = 2


def test_a_photograph_that_is_gone_is_black_and_told_once(session, photographs):
    image = find(session.viewer, Role.IMAGE)
    (photographs / "slice_03.png").unlink()
    told = len(notices.VOICE.messages)
    session.go_to(3)
    assert session.slice == 3
    assert not np.asarray(image.data[3]).any()
    (message,) = notices.VOICE.messages[told:]
    assert message.is_error
    assert "slice_03.png cannot be read" in message.text
    assert "Errno" not in message.text
    session.go_to(1)
    assert np.asarray(image.data[1]).max() == 220
