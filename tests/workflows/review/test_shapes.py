"""Single masks of a project are split, tidied, proposed and described, and can be undone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_fossiledit.cli.commands import app
from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.masks.rle import iou_matrix
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.params.review import (
    DescribeParams,
    ProposeParams,
    ReshapeParams,
    SplitParams,
    SwapParams,
    Tool,
    YesNo,
)
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks import open_stack
from napari_fossiledit.workflows.reef import link
from napari_fossiledit.workflows.review import journal
from napari_fossiledit.workflows.review.shapes import describe, propose, reshape, split, swap

SHAPE = (60, 90)
MODEL = "model:reef:0123456789ab"
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]


def disc(y: float, x: float, radius: float) -> np.ndarray:
    return np.hypot(ROWS - y, COLUMNS - x) <= radius


LEFT, RIGHT = disc(30, 25, 14), disc(30, 60, 14)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for z in range(2):
        grey = np.where(LEFT | RIGHT, 190, 70) + random.integers(0, 20, SHAPE)
        Image.fromarray(grey.astype(np.uint8)).save(photos / f"{z}.png")
    made = tmp_path / "rock.fossil"
    params = NewParams(pixel_size=50, slice_spacing=500, classes=("cup", "stick"))
    Project.create(made, open_stack(photos), params).close()
    return made


def put(path: Path, *arrays: np.ndarray, **values: Any) -> list[int]:
    new = [Instance(0, "cup", Mask.from_array(a), **values) for a in arrays]
    with Project.open(path) as project:
        return project.ledger.edit(0, put=new)


def stored(path: Path) -> dict[int | None, Instance]:
    with Project.open(path, read_only=True) as project:
        return {i.id: i for i in project.ledger.instances(ANNOTATIONS)}


def array(path: Path, id_: int) -> np.ndarray:
    return stored(path)[id_].mask.to_array()


def test_a_line_splits_a_fossil_and_its_cavity_and_is_undone(path: Path) -> None:
    (body,) = put(path, LEFT, specimen=7)
    with Project.open(path) as project:
        hollow = Instance(0, "cup", Mask.from_array(disc(30, 25, 5)), part=Part.CAVITY)
        (cavity,) = project.ledger.edit(0, put=[replace(hollow, parent=body)])
    before = stored(path)
    done = split(path, SplitParams(id=body, line="22,0;22,59"))
    assert done.changed == (body, cavity)
    after = stored(path)
    large, small = LEFT & (COLUMNS >= 22), LEFT & (COLUMNS < 22)
    (other,) = (id_ for id_ in done.new if after[id_].part is Part.BODY)
    assert (array(path, body) == large).all()
    assert (array(path, other) == small).all()
    assert (after[body].specimen, after[other].specimen) == (7, None)
    assert after[other].origin is Origin.HUMAN
    inner = {i.parent: i.mask.to_array() for i in after.values() if i.part is Part.CAVITY}
    assert (inner[body] == (disc(30, 25, 5) & (COLUMNS >= 22))).all()
    assert (inner[other] == (disc(30, 25, 5) & (COLUMNS < 22))).all()
    assert done.area_before == done.area_after == np.count_nonzero(LEFT)
    assert journal.undo(path).what == "split a mask"
    assert stored(path) == before


def test_two_clicks_split_what_touches(path: Path) -> None:
    bridge = (abs(ROWS - 30) < 2) & (COLUMNS > 25) & (COLUMNS < 60)
    (both,) = put(path, LEFT | RIGHT | bridge)
    done = split(path, SplitParams(id=both, clicks="60,30;25,30"))
    found = [Mask.from_array(array(path, id_)) for id_ in (both, *done.new)]
    truths = [Mask.from_array(a) for a in (RIGHT, LEFT)]
    assert (np.diag(iou_matrix(found, truths)) > 0.93).all()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"line": "0,0;89,0"}, "The line does not part the mask"),
        ({"clicks": "25,30;80,5"}, "A click lies outside the mask"),
        ({}, "It is not clear where to split"),
        ({"line": "0,0;9,9", "clicks": "25,30;26,30"}, "It is not clear where to split"),
        ({"clicks": "25,30"}, "It is not clear where to split"),
        ({"line": "a,b;c"}, "Points cannot be read"),
        ({"line": "20,0;20,59", "id": 99}, "Slice 0 has no mask 99"),
        ({"line": "20,0;20,59", "slice": 5}, "Slice 5 is not in the stack"),
    ],
)
def test_a_split_that_leaves_nothing_changes_nothing(
    path: Path, params: dict[str, Any], words: str
) -> None:
    (body,) = put(path, LEFT)
    before = stored(path)
    with pytest.raises(FossilError, match=words):
        split(path, SplitParams(**{"id": body} | params))
    assert stored(path) == before


def test_growing_stops_at_other_masks_and_says_so(path: Path) -> None:
    one, other = put(path, LEFT, RIGHT)
    done = reshape(path, ReshapeParams(ids=f"{one}", tool=Tool.GROW, um=500))
    far = np.min([np.hypot(ROWS - y, COLUMNS - x) for y, x in np.argwhere(LEFT)], axis=0) <= 10
    grown = far & ~RIGHT
    assert (array(path, one) == grown).all()
    assert (array(path, other) == RIGHT).all()
    assert done.left_to_others == np.count_nonzero(far & RIGHT) > 0
    assert (done.area_before, done.area_after) == (LEFT.sum(), grown.sum())


def test_a_cavity_shrinks_with_its_fossil(path: Path) -> None:
    (body,) = put(path, LEFT)
    with Project.open(path) as project:
        hollows = [disc(30, 25, 12), disc(30, 12, 1)]
        inner = [
            Instance(0, "cup", Mask.from_array(a), part=Part.CAVITY, parent=body) for a in hollows
        ]
        wide, edge = project.ledger.edit(0, put=inner)
    done = reshape(path, ReshapeParams(ids=f"{body}", tool=Tool.SHRINK, pixels=5))
    assert (done.changed, done.removed) == ((body, wide), (edge,))
    assert (array(path, wide) == array(path, body)).all()
    assert edge not in stored(path)


def test_reviewed_masks_are_left_alone_and_counted(path: Path) -> None:
    one, other = put(path, LEFT & ~disc(30, 25, 4), RIGHT & ~disc(30, 60, 4))
    with Project.open(path) as project:
        project.ledger.set_reviewed([one])
    done = reshape(path, ReshapeParams(ids=f"{one},{other}"))
    assert (done.changed, done.reviewed) == ((other,), (one,))
    assert (array(path, other) == RIGHT).all()
    calls = [
        lambda: split(path, SplitParams(id=one, line="20,0;20,59")),
        lambda: reshape(path, ReshapeParams(ids=str(one))),
        lambda: describe(path, DescribeParams(ids=str(one), texture="pitted")),
        lambda: propose(path, ProposeParams(id=one, write=True)),
        lambda: swap(path, SwapParams(ids=f"{one},{other}")),
    ]
    before = stored(path)
    for call in calls:
        with pytest.raises(FossilError, match=f"Reviewed masks stay as they are: {one}"):
            call()
    assert stored(path) == before
    reshape(path, ReshapeParams(ids=str(one), reviewed_too=True))
    assert (array(path, one) == LEFT).all()
    assert stored(path)[one].reviewed


def test_shrinking_to_nothing_is_refused(path: Path) -> None:
    (one,) = put(path, LEFT)
    with pytest.raises(FossilError, match=f"Nothing would be left of the mask {one}"):
        reshape(path, ReshapeParams(ids=str(one), tool=Tool.SHRINK, pixels=20))
    assert (array(path, one) == LEFT).all()


def test_a_box_is_a_preview_or_a_mask_beside_the_others(path: Path) -> None:
    wedge = RIGHT & (COLUMNS > 66)
    (other,) = put(path, wedge)
    truth = Mask.from_array(RIGHT & ~wedge)
    shown = propose(path, ProposeParams(box="46:75,16:45"))
    assert stored(path).keys() == {other}
    assert shown.id is None
    assert iou_matrix([shown.mask], [truth])[0, 0] > 0.93
    assert shown.left_to_others > 0.9 * wedge.sum()
    done = propose(path, ProposeParams(box="46:75,16:45", class_name="stick", write=True))
    assert done.id is not None
    new = stored(path)[done.id]
    assert (new.mask, new.class_name, new.origin) == (shown.mask, "stick", Origin.HUMAN)
    assert (array(path, other) == wedge).all()


def test_a_click_takes_the_prediction_below_it_or_the_size_of_others(path: Path) -> None:
    with pytest.raises(FossilError, match="It is not known how large a fossil is here"):
        propose(path, ProposeParams(click="25,30"))
    (own,) = put(path, RIGHT)
    truth = Mask.from_array(LEFT)
    found = propose(path, ProposeParams(click="25,30"))
    assert found.prediction is None
    assert iou_matrix([found.mask], [truth])[0, 0] > 0.93
    with Project.open(path) as project:
        rough = Instance(0, "stick", Mask.from_array(disc(31, 26, 13)), score=0.9)
        (predicted,) = project.ledger.store(MODEL, 0, [rough])
    found = propose(path, ProposeParams(click="20,36", source=MODEL, write=True))
    assert found.prediction == predicted
    assert found.id is not None
    assert stored(path)[found.id].class_name == "stick"
    assert stored(path).keys() == {own, found.id}


def test_a_mask_is_drawn_again_in_its_own_box(path: Path) -> None:
    (one,) = put(path, disc(30, 25, 14) & (ROWS + COLUMNS > 45), specimen=3, texture="pitted")
    done = propose(path, ProposeParams(id=one, write=True))
    again = stored(path)[one]
    assert done.id == one
    assert (again.specimen, again.texture) == (3, "pitted")
    assert iou_matrix([again.mask], [Mask.from_array(LEFT)])[0, 0] > 0.93


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"box": "200:300,10:20"}, "The box lies outside the slice; expected within 90 x 60"),
        ({"click": "100,10"}, "The click lies outside the slice; expected within 90 x 60"),
        ({"box": "46:75,16:45", "click": "60,30"}, "It is not clear where to look"),
        ({}, "It is not known where to look"),
        ({"box": "46:75,16:45", "class_name": "cap"}, "no class 'cap'.*Do you mean 'cup'"),
        ({"box": "50:70,20:40"}, "There is nothing to propose; .*another fossil"),
    ],
)
def test_a_box_that_gives_nothing_says_why(path: Path, params: dict[str, Any], words: str) -> None:
    put(path, RIGHT)
    with pytest.raises(FossilError, match=words):
        propose(path, ProposeParams(**params))


def test_class_texture_and_unsure_are_written_as_one_step(path: Path) -> None:
    one, other = put(path, LEFT, RIGHT)
    with Project.open(path) as project:
        hollow = Instance(0, "cup", Mask.from_array(disc(30, 25, 4)), part=Part.CAVITY, parent=one)
        (cavity,) = project.ledger.edit(0, put=[hollow])
    before = stored(path)
    params = DescribeParams(ids=str(one), class_name="stick", texture="pitted", unsure=YesNo.YES)
    assert describe(path, params).changed == (one, cavity)
    after = stored(path)
    assert [(i.class_name, i.texture, i.unsure) for i in after.values()] == [
        ("stick", "pitted", True),
        ("cup", "", False),
        ("stick", "", False),
    ]
    journal.undo(path)
    assert stored(path) == before
    with pytest.raises(FossilError, match="There is nothing to write"):
        describe(path, DescribeParams(ids=str(other)))


def test_two_masks_exchange_their_specimens(path: Path) -> None:
    (one,) = put(path, LEFT, specimen=4)
    (other,) = put(path, RIGHT)
    swap(path, SwapParams(ids=f"{one},{other}"))
    assert {id_: i.specimen for id_, i in stored(path).items()} == {one: None, other: 4}
    with pytest.raises(FossilError, match=f"cannot be swapped.*found {one} of specimen none"):
        swap(path, SwapParams(ids=str(one)))


def test_the_commands_call_them(path: Path) -> None:
    (one,) = put(path, LEFT & ~disc(30, 25, 4))

    def run(*words: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, ["review", *words, "--json"])
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    assert run("reshape", str(path), str(one), "--tool", "fill")["area_after"] == LEFT.sum()
    assert run("describe", str(path), str(one), "--texture", "pitted")["changed"] == [one]
    assert run("split", str(path), str(one), "--line", "20,0;20,59")["changed"] == [one]
    shown = run("propose", str(path), "--box", "46:75,16:45")
    assert shown["id"] is None
    assert shown["box"] == "46:75,16:45"


def hollow(path: Path, **cavity: Any) -> tuple[int, int]:
    (body,) = put(path, LEFT, specimen=3)
    (inside,) = put(path, disc(30, 25, 6), part=Part.CAVITY, parent=body, **cavity)
    return body, inside


def test_a_body_and_its_cavity_are_of_one_class(path: Path) -> None:
    body, cavity = hollow(path)
    with pytest.raises(FossilError, match=rf"class of their fossil: {cavity}; expected the fossil"):
        describe(path, DescribeParams(ids=str(cavity), class_name="stick"))
    result = describe(path, DescribeParams(ids=f"{body},{cavity}", class_name="stick"))
    assert result.changed == (body, cavity)
    # Number 3 may be another one among sticks.
    assert {(i.class_name, i.specimen) for i in stored(path).values()} == {("stick", None)}
    journal.undo(path)
    with Project.open(path) as project:
        project.ledger.set_reviewed([cavity])
    with pytest.raises(FossilError, match="Reviewed masks stay as they are"):
        describe(path, DescribeParams(ids=str(body), class_name="stick"))


def test_specimens_are_swapped_within_a_class_and_linking_keeps_it(path: Path) -> None:
    for z in range(2):
        with Project.open(path) as project:
            masks = [Mask.from_array(a) for a in (LEFT, RIGHT)]
            project.ledger.edit(z, put=[Instance(z, "cup", mask) for mask in masks])
    link.run(path, LinkParams(source=ANNOTATIONS, class_name="cup"))
    one, other = (i.id for i in stored(path).values() if i.slice == 1)
    swap(path, SwapParams(slice=1, ids=f"{one},{other}"))
    swapped = {i.id: i.specimen for i in stored(path).values()}
    link.run(path, LinkParams(source=ANNOTATIONS, class_name="cup"))
    assert {i.id: i.specimen for i in stored(path).values()} == swapped
    describe(path, DescribeParams(slice=1, ids=str(one), class_name="stick"))
    with pytest.raises(FossilError, match=r"two masks of one class.*\(stick\)"):
        swap(path, SwapParams(slice=1, ids=f"{one},{other}"))


def test_cavities_stay_in_a_body_that_is_drawn_again(path: Path) -> None:
    (body,) = put(path, disc(30, 32, 20))
    (gone,) = put(path, disc(30, 46, 3), part=Part.CAVITY, parent=body)
    (cavity,) = put(path, disc(30, 38, 5), part=Part.CAVITY, parent=body)
    result = propose(path, ProposeParams(id=body, box="9:41,14:46", write=True))
    assert (result.id, result.cut) == (body, (gone, cavity))
    assert stored(path).keys() == {body, cavity}
    assert not (stored(path)[cavity].mask - stored(path)[body].mask).area


def test_what_lies_too_far_is_refused(path: Path) -> None:
    (body,) = put(path, LEFT)
    for tool in (Tool.GROW, Tool.SHRINK, Tool.SMOOTH):
        with pytest.raises(FossilError, match="at most 50000 um, which are 1000 pixels"):
            reshape(path, ReshapeParams(ids=str(body), tool=tool, um=1e12))
    for points in ("nan,2;3,4", "inf,1;2,2", "1e300,2;3,4"):
        for params in ({"line": points}, {"clicks": points}):
            with pytest.raises(FossilError, match="Points cannot be read"):
                split(path, SplitParams(id=body, **params))
    with pytest.raises(FossilError, match="No mask is named; expected ids among"):
        reshape(path, ReshapeParams(ids=""))
