"""Colours of instances: apart from the rock, from each other, and the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import deltaE_cie76, rgb2lab

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.annotations import FillParams
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.widgets.canvas import layers, palette
from napari_fossiledit.widgets.canvas.colours import _DARK, _LIGHT, colours_of
from napari_fossiledit.widgets.canvas.correcting import reload, show_labels
from napari_fossiledit.widgets.canvas.layers import (
    Role,
    find,
    set_editable,
    show_predictions,
)
from napari_fossiledit.widgets.canvas.palette import (
    COUNT,
    FILL,
    boxes_of,
    choose_indices,
    choose_palette,
    closeness,
    specimen_indices,
)
from napari_fossiledit.widgets.canvas.prediction_array import PredictionArray, paint_slice
from napari_fossiledit.workflows.annotate.corrections import fill
from napari_fossiledit.workflows.reef import link
from napari_fossiledit.workflows.shared.specimens import SpecimenKey
from tests.widgets.conftest import SHAPE, SOURCE, disk, settled


@dataclass(frozen=True)
class Key:
    specimen: int


def instance(row: int, column: int, radius: int, **more: object) -> Instance:
    return Instance(2, "archaeocyathid", Mask.from_array(disk(row, column, radius)), **more)


@pytest.mark.parametrize("rock", [(90, 50, 35), (128, 128, 128), (235, 230, 220), (20, 20, 30)])
def test_a_palette_stands_out_from_the_rock_and_its_colours_from_each_other(rock):
    random = np.random.default_rng(0)
    pixels = np.clip(np.array(rock) + random.normal(0, 12, (500, 3)), 0, 255) / 255
    palette = choose_palette(pixels)
    seen = FILL * palette[:, None] + (1 - FILL) * pixels
    from_rock = deltaE_cie76(rgb2lab(seen), rgb2lab(pixels)[None])
    assert (np.percentile(from_rock, 5, axis=1) >= 30).all()
    over = rgb2lab(FILL * palette + (1 - FILL) * pixels.mean(axis=0))
    apart = deltaE_cie76(over[:, None], over[None])[~np.eye(COUNT, dtype=bool)]
    assert apart.min() >= 22


def test_the_rock_face_has_no_colour_and_what_lies_on_it_has(session):
    rock = replace(instance(20, 30, 18, id=7), class_name=ROCK_CLASS)
    fossil = instance(20, 30, 5, id=8)
    assert rock.mask.box in colours_of(session).tint(2, [rock, fossil])
    tints = colours_of(session)._of("")
    assert list(tints.texture(np.array([7], np.uint32))) == [0]
    assert 1 <= tints.texture(np.array([8], np.uint32))[0] <= COUNT
    assert colours_of(session).tint(2, [rock, fossil]) == []


def test_neighbours_touch_or_are_near():
    shown = [instance(10, 10, 4), instance(10, 19, 4), instance(10, 55, 4), instance(12, 12, 1)]
    near = closeness(*boxes_of(shown))
    assert [sorted(n) for n in near] == [[1, 3], [0, 3], [], [0, 1]]
    assert near[0][3] > near[0][1]


def test_neighbours_differ_as_long_as_there_are_colours():
    crowd = [{m: 1.0 for m in range(COUNT) if m != n} for n in range(COUNT)]
    assert sorted(choose_indices(crowd, [0] * COUNT, range(COUNT))) == list(range(COUNT))
    # One more than there are colours: it gets that of the one that is farthest.
    crowd.append({m: 0.1 if m == 6 else 1.0 for m in range(COUNT)})
    chosen = choose_indices(crowd, [0] * (COUNT + 1), range(COUNT + 1))
    assert chosen[-1] == chosen[6]
    assert choose_indices([{}, {}], [3, 3], range(2)) == [3, 3]
    assert choose_indices([{1: 1.0}, {0: 1.0}], [3, 3], [1, 0], fixed=[0, 1]) == [3, 3]


def test_a_fossil_keeps_its_colour_from_the_prediction_to_the_label_and_the_next_slice(session):
    predictions = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    before = {i.score: i.id for i in session.current.instances(SOURCE, 2)}
    colours = {score: predictions.get_color(id_) for score, id_ in before.items()}
    fill(session.current.path, FillParams(source=SOURCE, slices="2", score=0))
    labels = show_labels(session)
    reload(session)
    for i in session.current.instances(ANNOTATIONS, 2):
        score = 0.9 if i.mask.area > 150 else 0.3
        np.testing.assert_array_equal(labels.get_color(i.id), colours[score])
    session.go_to(1)
    for i in session.current.instances(SOURCE, 1):
        np.testing.assert_array_equal(predictions.get_color(i.id), colours[i.score])


def test_specimens_of_two_classes_share_no_number(session):
    ledger, shape = session.current.ledger, session.current.slice_shape
    names = ("archaeocyathid", "shell")
    for n, name in enumerate(names):
        mask = Mask.from_crop(np.ones((9, 9), bool), (5, 5 + 14 * n), shape)
        for z in (0, 1):
            ledger.edit(z, put=[Instance(z, name, mask)])
    link.run(session.current.path, LinkParams(source=ANNOTATIONS, class_name="all"))
    found, _ = specimen_indices(session.current.path, {})
    keys = [SpecimenKey(name, 1) for name in names]
    assert found.keys() >= set(keys)
    assert found[keys[0]] != found[keys[1]]


def test_a_specimen_has_the_colour_of_its_sections(session):
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    colours = colours_of(session)
    known = {i.id: colours._of("").get(i.id) for i in session.current.instances(SOURCE, 2)}
    link.run(session.current.path, LinkParams(source=SOURCE, score=0))
    colours._take_specimens(specimen_indices(session.current.path, known))
    found = session.current.instances(SOURCE, 0) + session.current.instances(SOURCE, 2)
    assert len({i.specimen for i in found}) == 2
    for i in found:
        np.testing.assert_allclose(
            layer.get_color(i.id)[:3], colours.specimen(SpecimenKey(i.class_name, i.specimen))
        )
        if i.slice == 2:
            assert colours._of("").get(i.id) == known[i.id]


def test_outlines_show_the_border_alone_and_opacity_is_kept_in_both_modes(session):
    colours = colours_of(session)
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    ids = np.asarray(layer.data[2])
    filled = layer._slice.image.view.copy()
    np.testing.assert_array_equal(filled > 0, ids > 0)
    layer.opacity = 0.4
    colours.toggle()
    layer.contour = 1
    outline = layer._slice.image.view
    assert 0 < (outline > 0).sum() < (ids > 0).sum() / 2
    inside = disk(15, 17, 5)
    assert not outline[inside].any()
    assert layer.opacity == 1
    layer.opacity = 0.9
    again = show_predictions(session, SOURCE, 0.5)
    assert again.opacity == 0.9
    assert again.contour > 0
    colours.toggle()
    assert (again.opacity, again.contour) == (0.4, 0)


def test_fills_of_the_users_own_have_a_dark_rim_and_predictions_none(session):
    predictions = show_predictions(session, SOURCE, 0.0)
    labels = show_labels(session)
    session.go_to(1)
    # As wide on the screen at any zoom: here one pixel.
    session.viewer.camera.zoom = 2 / labels.scale[-1]
    labels.refresh(extent=False)
    drawn, ids = labels._slice.image.view, np.asarray(labels.data[1])
    inside = np.hypot(*(np.mgrid[: SHAPE[1], : SHAPE[2]] - np.array([15, 16])[:, None, None])) < 6
    assert (drawn == _DARK).sum() > 40
    assert not (drawn[inside] == _DARK).any()
    np.testing.assert_array_equal(drawn > 0, ids > 0)
    assert not (predictions._slice.image.view == _DARK).any()
    colours = colours_of(session)
    colours.toggle()
    assert not (labels._slice.image.view == _DARK).any()
    colours.toggle()


def test_two_specimens_that_touch_on_a_slice_never_share_a_colour(session, monkeypatch):
    """They lie in a crowd and wander: in all, some meet more others than there are colours."""
    random = np.random.default_rng(1)
    rows, columns = (n.ravel() for n in np.mgrid[6:36:7, 6:56:7])
    at = np.stack([rows, columns], 1) + np.cumsum(random.normal(0, 1.2, (4, len(rows), 2)), 0)
    sections = [
        [replace(instance(*at[z, n], 4), slice=z, id=4 * n + z + 1) for z in range(4)]
        for n in range(len(rows))
    ]
    keys = [Key(n) for n in range(len(rows))]
    specimens = SimpleNamespace(
        keys=keys,
        instances=lambda key: sections[key.specimen],
        ids={key: [i.id for i in sections[key.specimen]] for key in keys},
    )
    monkeypatch.setattr(palette, "read_specimens", lambda *_: specimens)
    # All had one colour before.
    known = {i.id: 3 for found in sections for i in found}
    index, of_ids = specimen_indices(session.current.path, known)
    assert of_ids == {i.id: index[keys[n]] for n, found in enumerate(sections) for i in found}
    touching = 0
    for z in range(4):
        masks = [ndimage.binary_dilation(found[z].mask.to_array()) for found in sections]
        for n, m in combinations(range(len(masks)), 2):
            if (masks[n] & masks[m]).any():
                touching += 1
                assert index[keys[n]] != index[keys[m]]
    assert touching > 100


def test_the_picked_instance_has_a_bright_outline(session):
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(2)
    sure = session.current.instances(SOURCE, 2)[0]
    colours_of(session).pick(layer, sure)
    drawn = layer._slice.image.view
    assert (drawn == _LIGHT).any()
    assert (drawn[~disk(15, 17, 8)] != _DARK).all()
    colours_of(session).pick(None)
    assert not np.isin(layer._slice.image.view, (_LIGHT, _DARK)).any()


def test_a_slice_drawn_in_blocks_is_the_slice_drawn_at_once(session, monkeypatch):
    layer = show_predictions(session, SOURCE, 0.0)
    session.go_to(1)
    masks, colours = layer._slice.image.raw, colours_of(session)
    colours.pick(layer, session.current.instances(SOURCE, 1)[0])
    for contour in (0, 2):
        layer.contour = contour
        monkeypatch.setattr("napari_fossiledit.widgets.canvas.colours._BLOCK", (10**6, 10**6))
        at_once = colours._drawn(layer, masks, None)
        # Smaller than outlines are wide: a block shows those of masks in the blocks around it.
        monkeypatch.setattr("napari_fossiledit.widgets.canvas.colours._BLOCK", (2, 3))
        np.testing.assert_array_equal(colours._drawn(layer, masks, None), at_once)
        assert {0, _LIGHT, _DARK} <= set(np.unique(at_once))
    colours.pick(None)


def test_masks_are_painted_once_when_their_layer_is_added(session, monkeypatch):
    session.go_to(1)
    painted = []
    monkeypatch.setattr(
        PredictionArray, "painted", lambda array, z: painted.append(z) or paint_slice([], (1, 1))
    )
    layer = PredictionArray(lambda _: [], SHAPE)
    layers.add(session.viewer, layers.mask_layer(session, layer, Role.PREDICTIONS, "Masks"))
    assert painted == [1]


def test_what_cannot_be_painted_stays_so_after_3d(session):
    layer = show_predictions(session, SOURCE, 0.5)
    layer.editable = True
    layer.mode = "paint"
    assert (layer.editable, layer.mode) == (False, "pan_zoom")
    set_editable(layer, editable=True)
    layer.mode = "paint"
    assert layer.mode == "paint"


def test_opening_a_project_takes_no_id(session, project_path):
    path = session.current.path
    session.close()

    def next_id() -> int:
        with Project.open(path, read_only=True) as project:
            query = "SELECT seq FROM sqlite_sequence WHERE name = 'instances'"
            return project.ledger._rows(query)[0][0]

    before = next_id()
    session.open(path)
    settled(session)
    assert find(session.viewer, Role.LABELS) is not None
    session.close()
    assert next_id() == before
    session.open(path)
    settled(session)
    labels = find(session.viewer, Role.LABELS)
    labels.mode = "paint"
    assert labels.selected_label == before + 1
    assert labels.data.shape == SHAPE
