"""Fossils through several slices: interpolated, copied, merged, split and described."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.params.review import (
    CopyParams,
    InterpolateParams,
    QueueParams,
    SameParams,
    SpecimensParams,
)
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.project.ledger import LARGEST_ID
from napari_fossiledit.selection import Doubt, Place
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.reef import link
from napari_fossiledit.workflows.review.journal import undo
from napari_fossiledit.workflows.review.queue import build
from napari_fossiledit.workflows.review.through_z import copy, interpolate, same, specimens

DEPTH, SHAPE = 12, (60, 90)
CUP, MICROBE = "archaeocyathid", "calcimicrobe"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rock.fossil"
    stack = BlankStack.of_shape(tmp_path / "blank", (DEPTH, *SHAPE))
    params = NewParams(pixel_size=72.7, slice_spacing=500, classes=(CUP, MICROBE))
    Project.create(made, stack, params).close()
    return made


def disc(y: float, x: float, radius: float) -> Mask:
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return Mask.from_array((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def put(path: Path, z: int, mask: Mask, name: str = CUP, **values: object) -> int:
    with Project.open(path) as project:
        return project.ledger.edit(z, put=[Instance(z, name, mask, **values)])[0]


def stored(path: Path) -> list[Instance]:
    with Project.open(path, read_only=True) as project:
        return project.ledger.instances(ANNOTATIONS)


def bodies(path: Path, z: int) -> list[Instance]:
    return [i for i in stored(path) if i.slice == z and i.part is Part.BODY]


def test_fossils_are_interpolated_as_one_action_with_their_cavities(path: Path) -> None:
    for z, x in ((2, 30), (6, 50)):
        with Project.open(path) as project:
            whole = Instance(z, CUP, disc(30, x, 12), texture="pitted", specimen=4, id=-1)
            hollow = Instance(z, CUP, disc(30, x, 5), part=Part.CAVITY, specimen=4, parent=-1)
            project.ledger.edit(z, put=[whole, hollow])
    before = stored(path)
    shown = interpolate(path, InterpolateParams(preview=True))
    assert stored(path) == before
    result = interpolate(path, InterpolateParams())
    assert [i.mask for i in shown.sections] == [i.mask for i in result.sections]
    assert (result.slices, result.summary()["sections"]) == ((3, 4, 5), 3)
    body, cavity = [i for i in stored(path) if i.slice == 4]
    assert (body.texture, body.specimen, body.origin) == ("pitted", 4, Origin.INTERPOLATED)
    assert (cavity.parent, cavity.part) == (body.id, Part.CAVITY)
    assert body.mask.box == disc(30, 40, 12).box
    assert cavity.mask.box == disc(30, 40, 5).box
    # Once more replaces what nobody looked at, and interpolates from none of it.
    again = interpolate(path, InterpolateParams())
    assert (again.replaced, len(stored(path))) == (3, 10)
    undo(path)
    undo(path)
    assert stored(path) == before


def test_nothing_of_another_fossil_or_a_looked_at_slice_is_touched(path: Path) -> None:
    for z in (0, 6):
        put(path, z, disc(30, 30, 12), specimen=1)
    other = put(path, 1, disc(30, 48, 10), MICROBE)
    drawn = put(path, 2, disc(30, 31, 9), specimen=1)
    right = put(path, 3, disc(50, 80, 5), MICROBE)
    cover = put(path, 5, disc(30, 30, 20), MICROBE)
    with Project.open(path) as project:
        project.ledger.set_reviewed([right])
        project.ledger.set_traced(4, None)
    before = {i.id: i for i in stored(path)}
    # By name: slice 2, where the fossil was drawn, lies in the midst.
    result = interpolate(path, InterpolateParams(slices="0,6"))
    assert (result.kept, result.there, result.covered) == ((3, 4), 1, 1)
    assert result.slices == (1,)
    after = {i.id: i for i in stored(path)}
    assert {id_: after[id_] for id_ in before} == before
    (new,) = (i for id_, i in after.items() if id_ not in before)
    assert new.mask == disc(30, 30, 12) - before[other].mask
    assert {drawn, cover} < after.keys()


def test_sections_without_numbers_belong_together_by_overlap_then_nearness(path: Path) -> None:
    # Overlap, nearness, another class in the same place, and too far away.
    for z, shift in ((0, 0), (2, 8)):
        put(path, z, disc(12, 15 + shift, 8))
    for z, x in ((0, 20), (2, 34)):
        put(path, z, disc(45, x, 8))
    put(path, 0, disc(12, 60, 6))
    put(path, 2, disc(12, 60, 6), MICROBE)
    put(path, 2, disc(50, 80, 6))
    result = interpolate(path, InterpolateParams())
    assert {i.mask.box for i in result.sections} == {disc(12, 19, 8).box, disc(45, 27, 8).box}
    assert result.alone == 3


def test_a_branch_becomes_two_and_keeps_its_number(path: Path) -> None:
    put(path, 0, disc(30, 30, 12) | disc(30, 55, 12), specimen=3)
    for x in (25, 60):
        put(path, 4, disc(30, x, 8), specimen=3)
    interpolate(path, InterpolateParams())
    assert [i.specimen for i in bodies(path, 3)] == [3, 3]


def test_neither_long_gaps_nor_missing_sections_are_bridged(path: Path) -> None:
    for z in (0, 2, 11):
        put(path, z, disc(30, 30, 12), specimen=1)
    put(path, 0, disc(10, 70, 6), specimen=2)
    put(path, 6, disc(10, 70, 6), specimen=2)
    result = interpolate(path, InterpolateParams(max_gap=3))
    assert (result.slices, result.long_gaps) == ((1,), ((6, 11),))
    # Specimen 2 is missing in slice 2, specimen 1 in slice 6.
    assert {i.specimen for i in result.sections} == {1}
    assert result.alone == 3


@pytest.mark.parametrize(("slices", "found"), [("0,3", "0,3"), ("0", "0"), ("all", "0")])
def test_there_must_be_two_drawn_slices(path: Path, slices: str, found: str) -> None:
    put(path, 0, disc(30, 30, 12))
    with pytest.raises(FossilError, match="nothing to interpolate between") as caught:
        interpolate(path, InterpolateParams(slices=slices))
    assert caught.value.found == f"slices {found} asked for, and annotations in 0"


def test_a_specimen_that_is_not_there_is_told(path: Path) -> None:
    put(path, 0, disc(30, 30, 12), specimen=1)
    with pytest.raises(FossilError, match="has the number 7"):
        interpolate(path, InterpolateParams(specimens="1,7"))
    with pytest.raises(FossilError, match="has the number 7"):
        specimens(path, SpecimensParams(specimens="1,7", merge=True))


def test_where_ids_run_out_nothing_is_written(path: Path) -> None:
    for z in (0, 4):
        put(path, z, disc(30, 30, 12))
    with Project.open(path) as project, project.ledger.transaction() as db:
        # Enough for the first of three slices.
        db.execute("UPDATE sqlite_sequence SET seq = ?", (LARGEST_ID - 2,))
    before = stored(path)
    with pytest.raises(FossilError, match="no instance ids left"):
        interpolate(path, InterpolateParams())
    assert stored(path) == before


def test_masks_are_copied_beside_what_is_there(path: Path) -> None:
    with Project.open(path) as project:
        whole = Instance(3, CUP, disc(30, 30, 12), id=-1, reviewed=True, specimen=5)
        hollow = Instance(3, CUP, disc(30, 30, 5), part=Part.CAVITY, parent=-1)
        body, _ = project.ledger.edit(3, put=[whole, hollow])
    put(path, 4, disc(30, 45, 8), MICROBE)
    put(path, 6, disc(30, 31, 11))
    result = copy(path, CopyParams(slice=3, ids=str(body), to="3-6"))
    assert (result.slices, result.there) == ((4, 5), 1)
    new, cavity = (i for i in stored(path) if i.slice == 4 and i.class_name == CUP)
    assert new.mask == disc(30, 30, 12) - disc(30, 45, 8)
    assert (new.reviewed, new.specimen, cavity.parent) == (False, 5, new.id)
    assert copy(path, CopyParams(slice=3, ids=str(body), to="previous")).slices == (2,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ids": "99"}, "no such annotations to copy"),
        ({"ids": ""}, "no such annotations to copy"),
        ({"ids": "1", "slice": 11, "to": "next"}, "Slice 12 is not in the stack"),
    ],
)
def test_a_copy_of_nothing_or_to_nowhere_is_refused(path: Path, values: dict, message: str) -> None:
    put(path, 0, disc(30, 30, 12))
    with pytest.raises(FossilError, match=message):
        copy(path, CopyParams(**values))


def reef(path: Path) -> dict[str, list[int]]:
    """Put two cups of four slices and a calcimicrobe of two into a project."""
    places = {"1": (CUP, 15), "2": (CUP, 45), "3": (MICROBE, 75)}
    return {
        number: [
            put(path, z, disc(30, x, 8), name, specimen=int(number))
            for z in range(4 if name == CUP else 2)
        ]
        for number, (name, x) in places.items()
    }


def numbers(path: Path) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for i in stored(path):
        found.setdefault(i.specimen or 0, []).append(i.slice)
    return found


def test_specimens_are_merged_and_split_and_linking_keeps_that(path: Path) -> None:
    reef(path)
    merged = specimens(path, SpecimensParams(specimens="2,1", merge=True))
    assert (merged.specimens, merged.instances) == ((2,), 4)
    assert numbers(path)[2] == [0, 0, 1, 1, 2, 2, 3, 3]
    undo(path)
    split = specimens(path, SpecimensParams(specimens="1", split_at=2))
    assert (split.class_name, split.specimens, split.slices) == (CUP, (1, 3), (2, 3))
    link.run(path, LinkParams(source=ANNOTATIONS, class_name=CUP))
    cups = {s: z for s, z in numbers(path).items() if s != 3}
    assert cups[1] == [0, 1]
    assert [i.specimen for i in stored(path) if i.mask.box[1] < 20] == [1, 1, 3, 3]


def test_all_of_a_specimen_is_described_or_deleted_but_what_is_reviewed(path: Path) -> None:
    ids = reef(path)
    with Project.open(path) as project:
        project.ledger.set_reviewed(ids["1"][:1])
    done = specimens(path, SpecimensParams(specimens="1", texture="pitted", unsure="yes"))
    assert (done.instances, done.reviewed) == (3, 1)
    found = {i.id: i for i in stored(path)}
    assert [(found[i].texture, found[i].unsure) for i in ids["1"]] == [("", False)] + [
        ("pitted", True)
    ] * 3
    # In its new class the number is taken.
    moved = specimens(path, SpecimensParams(specimens="2", new_class=MICROBE))
    assert (moved.class_name, moved.specimens) == (MICROBE, (4,))
    specimens(path, SpecimensParams(specimens="1", delete=True))
    assert numbers(path)[1] == [0]
    specimens(path, SpecimensParams(specimens="1", delete=True, reviewed_too=True))
    assert 1 not in numbers(path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"specimens": "1,3", "merge": True}, "not of one class"),
        ({"specimens": "1", "merge": True}, "not clear what to do"),
        ({"specimens": "1"}, "not clear what to do"),
        ({"specimens": "1", "delete": True, "unsure": "no"}, "not clear what to do"),
        ({"specimens": "", "delete": True}, "not clear what to do"),
        ({"specimens": "1", "split_at": 0}, "leaves nothing of one part"),
        ({"specimens": "1", "split_at": 4}, "leaves nothing of one part"),
        ({"specimens": "1", "class_name": MICROBE, "delete": True}, "calcimicrobe has the number"),
    ],
)
def test_what_cannot_be_done_to_specimens_is_told(path: Path, values: dict, message: str) -> None:
    reef(path)
    before = stored(path)
    with pytest.raises(FossilError, match=message):
        specimens(path, SpecimensParams(**values))
    assert stored(path) == before


def test_the_next_of_the_named_slices_tell_how_a_size_goes_on(path: Path) -> None:
    # A ball about slice 3, and another fossil in every slice.
    for z in (0, 2, 4, 6):
        put(path, z, disc(30, 30, (400 - 36 * (z - 3) ** 2) ** 0.5), specimen=1)
    for z in range(7):
        put(path, z, disc(8, 80, 5), MICROBE)
    (middle,) = interpolate(path, InterpolateParams(slices="2,4", class_name=CUP)).sections
    undo(path)
    named = interpolate(path, InterpolateParams(slices="0,2,4,6", class_name=CUP)).sections
    assert named[1].slice == 3
    assert named[1].mask.area > middle.mask.area


def test_a_cavity_that_a_person_drew_into_an_interpolated_fossil_stays(path: Path) -> None:
    for z in (0, 2):
        put(path, z, disc(30, 30, 14), specimen=1)
    interpolate(path, InterpolateParams())
    (body,) = bodies(path, 1)
    put(path, 1, disc(30, 30, 6), part=Part.CAVITY, parent=body.id)
    before = stored(path)
    assert interpolate(path, InterpolateParams()).there == 1
    assert stored(path) == before


def test_cavities_without_a_number_go_with_their_specimen(path: Path) -> None:
    body = put(path, 0, disc(30, 30, 14), specimen=3)
    cavity = put(path, 0, disc(30, 30, 6), part=Part.CAVITY, parent=body)
    specimens(path, SpecimensParams(specimens="3", new_class=MICROBE))
    assert {i.class_name for i in stored(path)} == {MICROBE}
    with Project.open(path) as project:
        project.ledger.set_reviewed([cavity])
    result = specimens(path, SpecimensParams(specimens="1", delete=True))
    assert (result.instances, result.reviewed, len(stored(path))) == (0, 1, 2)


def test_a_slice_is_not_copied_onto_itself(path: Path) -> None:
    body = put(path, 3, disc(30, 30, 14))
    with pytest.raises(FossilError, match="Masks of slice 3 cannot be copied onto themselves"):
        copy(path, CopyParams(slice=3, ids=str(body), to="3"))


def doubtful(path: Path) -> list[Place]:
    places = [place.place for place in build(path, QueueParams()).places]
    return [place for place in places if place.doubt is Doubt.LINK]


def in_order(path: Path) -> list[int | None]:
    return [i.specimen for i in sorted(stored(path), key=lambda i: (i.slice, i.id or 0))]


def test_a_doubtful_link_is_decided_and_linking_keeps_to_it(path: Path) -> None:
    """One goes on far beside where the other ended; a third touches neither."""
    ids = [put(path, z, disc(30, 30 if z < 3 else 45, 12)) for z in range(6)]
    put(path, 0, disc(10, 80, 5))
    with Project.open(path) as project:
        for z in range(6):
            project.ledger.set_traced(z, None)
    assert link.run(path, LinkParams(min_overlap=0.2)).doubtful == 1
    assert in_order(path) == [1, 2, 1, 1, 1, 1, 1]
    (place,) = doubtful(path)
    assert (place.slice, place.before, place.ids) == (3, (ids[2],), (ids[3],))
    link.run(path, LinkParams(min_overlap=1))
    assert doubtful(path) == []
    undo(path)
    assert doubtful(path) == [place]
    result = same(path, SameParams(before=ids[2], after=ids[3], same=False))
    assert (result.specimens, result.slices, result.instances) == ((1, 3), (3, 4, 5), 3)
    assert (in_order(path), doubtful(path)) == ([1, 2, 1, 1, 3, 3, 3], [])
    with pytest.raises(FossilError, match=rf"{ids[2]} and {ids[3]} are not linked.*specimen 3"):
        same(path, SameParams(before=ids[2], after=ids[3]))
    undo(path)
    assert (in_order(path), doubtful(path)) == ([1, 2, 1, 1, 1, 1, 1], [place])
    same(path, SameParams(before=ids[2], after=ids[3], same=False))
    assert link.run(path, LinkParams(min_overlap=0.2)).kept
    assert (in_order(path), doubtful(path)) == ([1, 4, 1, 1, 3, 3, 3], [])
    for _ in range(2):
        undo(path)
    same(path, SameParams(before=ids[2], after=ids[3]))
    # A stricter linking parts what nobody has decided about.
    link.run(path, LinkParams(min_overlap=1))
    found = in_order(path)
    assert found[3] == found[4] == 1
    link.run(path, LinkParams(min_overlap=0.5, relink=True))
    assert in_order(path) == [1, 2, 1, 1, 3, 3, 3]
