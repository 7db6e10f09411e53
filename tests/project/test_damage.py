"""Damaged rows are named by file and slice, restored from the journal, or cleared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.masks.probability import Piece, ProbabilityMask
from napari_fossiledit.project import ANNOTATIONS, Ledger
from napari_fossiledit.project.damage import CLEARED, LEFT, RESTORED, repair_ledger
from napari_fossiledit.project.runs import DamagedError

SHAPE = (20, 30)
MODEL = "model:reef:0123456789ab"


def box(y: int, x: int, size: int = 4) -> Mask:
    return Mask.from_crop(np.ones((size, size), dtype=bool), (y, x), SHAPE)


def body(z: int = 0, **more: object) -> Instance:
    return replace(Instance(z, "archaeocyathid", box(2, 3)), **more)


@pytest.fixture
def ledger(tmp_path: Path):
    with Ledger(tmp_path / "ledger.sqlite", shape=SHAPE) as opened:
        for z in range(3):
            opened.store(MODEL, z, [body(z, score=0.5), body(z, score=0.7)])
        yield opened


def damage(ledger: Ledger, query: str, *values: object) -> None:
    with ledger.transaction() as db:
        assert db.execute(query, values).rowcount


def outcomes(ledger: Ledger, *, clear: bool = False) -> list[tuple]:
    return [(d.what, d.slice, d.outcome) for d in repair_ledger(ledger, clear=clear)]


BROKEN = {
    "counts": [
        b"", b"oooo", b"5", b"\xff\xfe", "text", 7, box(0, 0).counts[:-1],
        Mask.empty((9, 9)).counts,
    ],
    "height": [-3, 19, "x", 2**40],
    "score": ["much", 1e999],
    "part": ["tail", b"\xff"],
    "origin": [""],
    "class": [b"bytes"],
    "texture": [b"\x80"],
    "unsure": ["perhaps"],
    "specimen": ["seven", 1.5],
}  # fmt: skip


@pytest.mark.parametrize(
    ("column", "value"), [(column, value) for column, values in BROKEN.items() for value in values]
)
def test_whatever_is_damaged_is_named_and_comes_back(
    ledger: Ledger, column: str, value: object
) -> None:
    ids = ledger.edit(4, put=[body(4, specimen=3), body(4)])
    ledger.edit(4, put=[body(4, id=ids[0], mask=box(9, 9), specimen=3)])
    ledger.describe(ids, texture="pitted")
    before = ledger.instances(ANNOTATIONS)
    damage(ledger, f"UPDATE instances SET {column} = ? WHERE id = ?", value, ids[0])
    named = rf"ledger\.sqlite holds a damaged instance, number {ids[0]} of annotations, in slice 4"
    with pytest.raises(DamagedError, match=rf"{named}.*fossiledit repair-project"):
        ledger.instances(ANNOTATIONS)
    assert len(ledger.instances(MODEL)) == 6
    assert outcomes(ledger) == [("instance", 4, RESTORED)]
    assert ledger.instances(ANNOTATIONS) == before
    assert outcomes(ledger) == []
    while ledger.undo():
        pass
    assert ledger.instances(ANNOTATIONS) == []


@pytest.mark.parametrize("shape", [SHAPE[::-1], (-20, -30), (2**31, 2**29)])
def test_a_mask_of_another_shape_is_named_before_it_is_decoded(
    ledger: Ledger, shape: tuple[int, int]
) -> None:
    """Its code fits its own shape: painted, it would lie elsewhere, or take any memory."""
    whole = Mask.empty(SHAPE).counts
    code = whole if abs(shape[0]) < 99 else b"0" + b"P" * 11 + b"4"
    ids = ledger.edit(4, put=[body(4), body(4)])
    values = (*shape, code, ids[0])
    damage(ledger, "UPDATE instances SET height = ?, width = ?, counts = ? WHERE id = ?", *values)
    with pytest.raises(DamagedError, match=rf"number {ids[0]} of annotations.*slices are"):
        ledger.instances(ANNOTATIONS)
    assert outcomes(ledger) == [("instance", 4, RESTORED)]


def test_a_text_that_is_none_damages_one_row_only(ledger: Ledger) -> None:
    damage(ledger, "UPDATE instances SET class = CAST(x'ff6b' AS TEXT) WHERE id = 1")
    with pytest.raises(DamagedError, match="number 1 of"):
        ledger.instances(MODEL, slices=[0])
    assert len(ledger.instances(MODEL, slices=[1, 2])) == 4


def test_what_the_journal_does_not_hold_is_cleared_where_asked(ledger: Ledger) -> None:
    """An annotation alone, and its slice is not traced; a prediction's slice is predicted anew."""
    one, two = ledger.edit(1, put=[body(1), body(1)], traced=None)
    ledger.edit(2, put=[], traced=box(0, 0))
    with ledger.transaction() as db:
        db.execute("DELETE FROM actions")
    predicted = ledger.instances(MODEL, slices=[2])[0].id
    damage(ledger, "UPDATE instances SET counts = ? WHERE id IN (?, ?)", b"junk", one, predicted)
    damage(ledger, "UPDATE traced SET counts = ? WHERE z = 2", b"5")
    with pytest.raises(DamagedError, match=r"damaged traced area of slice 2.*repair-project"):
        ledger.traced()
    found = [("instance", 1), ("instance", 2), ("traced area", 2)]
    assert outcomes(ledger) == [(*item, LEFT) for item in found]
    assert outcomes(ledger, clear=True) == [(*item, CLEARED) for item in found]
    assert [i.id for i in ledger.instances(ANNOTATIONS)] == [two]
    assert ledger.traced() == {}
    assert ledger.done(MODEL) == {0, 1}
    assert len(ledger.instances(MODEL)) == 4
    assert outcomes(ledger) == []


def test_clearing_leaves_nothing_that_cannot_be_undone(ledger: Ledger) -> None:
    (one,) = ledger.edit(3, put=[body(3)])
    ledger.edit(4, put=[body(4)])
    ledger.edit(3, put=[body(3, id=one, mask=box(0, 0))])
    ledger.edit(5, put=[body(5)], what="last")
    with ledger.transaction() as db:
        db.execute("UPDATE action_slices SET after = before WHERE z = 3")
    damage(ledger, "UPDATE instances SET part = 'x' WHERE id = ?", one)
    assert outcomes(ledger, clear=True) == [("instance", 3, CLEARED)]
    assert ledger.undo().what == "last"
    assert ledger.undo() is None


def test_a_traced_area_comes_back(ledger: Ledger) -> None:
    ledger.set_traced(5, box(0, 0))
    ledger.add_traced(5, box(9, 9))
    ledger.edit(5, put=[body(5)])
    damage(ledger, "UPDATE traced SET height = 'x'")
    with pytest.raises(DamagedError, match="slice 5"):
        ledger.traced()
    assert outcomes(ledger) == [("traced area", 5, RESTORED)]
    assert ledger.traced() == {5: box(0, 0) | box(9, 9)}


def test_undone_changes_are_not_restored(ledger: Ledger) -> None:
    (id_,) = ledger.edit(0, put=[body()])
    ledger.edit(0, put=[body(id=id_, mask=box(9, 9))])
    ledger.undo()
    damage(ledger, "UPDATE instances SET counts = x'00' WHERE id = ?", id_)
    repair_ledger(ledger, clear=False)
    assert [i.mask for i in ledger.instances(ANNOTATIONS)] == [box(2, 3)]


def test_damaged_actions_facts_and_runs(ledger: Ledger) -> None:
    for n in range(3):
        ledger.edit(n, put=[body(n)], what=str(n))
    ledger.set_meta("colour", [1])
    with ledger.recorded("train", {}):
        pass
    damage(ledger, "UPDATE action_slices SET before = x'00' WHERE z = 1")
    damage(ledger, "UPDATE meta SET value = '{' WHERE key = 'colour'")
    damage(ledger, "UPDATE runs SET summary = 'junk'")
    with pytest.raises(DamagedError, match="damaged fact: colour"):
        ledger.get_meta("colour")
    assert ledger.runs()[0].summary == {"damaged": "junk"}
    ledger.undo()
    with pytest.raises(FossilError, match="damaged action: 1, slice 1"):
        ledger.undo()
    found = [("action", 1), ("fact", None), ("run", None)]
    assert outcomes(ledger, clear=True) == [(*item, CLEARED) for item in found]
    assert ledger.get_meta("colour", "none") == "none"
    assert [a.what for a in ledger.history()] == ["2"]
    assert ledger.redo() is not None
    assert len(ledger.instances(ANNOTATIONS)) == 3


def test_an_action_of_which_a_part_is_missing_is_cleared(ledger: Ledger) -> None:
    action = ledger.begin("interpolate")
    for z in range(2):
        ledger.edit(z, put=[body(z)], action=action)
    ledger.edit(2, put=[body(2)], what="paint")
    damage(ledger, "DELETE FROM action_slices WHERE z = 1")
    assert outcomes(ledger) == [("action", None, LEFT)]
    assert outcomes(ledger, clear=True) == [("action", None, CLEARED)]
    assert ledger.undo().what == "paint"
    assert ledger.undo() is None
    assert len(ledger.instances(ANNOTATIONS)) == 2


def test_an_index_that_lost_rows_is_made_anew(ledger: Ledger) -> None:
    with ledger._database.reading() as db:
        db.execute("PRAGMA writable_schema = ON")
        query = "SELECT sql FROM sqlite_master WHERE name = 'instances_by_slice'"
        (sql,) = db.execute(query).fetchone()
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'instances_by_slice'",
                   (sql.replace("score DESC", "score ASC"),))  # fmt: skip
    with Ledger(ledger.path) as again:
        assert outcomes(again) == [("file", None, RESTORED)]
        assert outcomes(again) == []


def test_nothing_is_wrong_with_a_sound_ledger(ledger: Ledger) -> None:
    ledger.edit(0, put=[body(id=-1), body(parent=-1)], traced=box(0, 0))
    with ledger.recorded("train", {"a": [1]}) as summary:
        summary["b"] = json.dumps({})
    assert repair_ledger(ledger, clear=True) == []


@pytest.mark.parametrize("blob", [b"", b"\1junk", "text", 7])
def test_damaged_probabilities_are_found_and_their_slice_is_predicted_anew(
    ledger: Ledger, blob: object
) -> None:
    kept = ProbabilityMask((Piece((3, 2, 7, 6), np.full((4, 4), 200, np.uint8), exact=True),))
    (id_,) = ledger.store(MODEL, 5, [body(5, probability=kept)])
    damage(ledger, "UPDATE instances SET probability = ? WHERE id = ?", blob, id_)
    assert len(ledger.instances(MODEL, slices=[5])) == 1
    with pytest.raises(DamagedError, match=rf"number {id_} of {MODEL}, in slice 5.*probabilities"):
        ledger.instances(MODEL, slices=[5], mask_cut=0.7)
    assert outcomes(ledger) == [("instance", 5, LEFT)]
    assert outcomes(ledger, clear=True) == [("instance", 5, CLEARED)]
    assert ledger.done(MODEL) == {0, 1, 2}


def test_an_annotation_loses_only_probabilities_that_it_never_had(ledger: Ledger) -> None:
    (id_,) = ledger.edit(4, put=[body(4)])
    before = ledger.instances(ANNOTATIONS)
    damage(ledger, "UPDATE instances SET probability = ? WHERE id = ?", b"junk", id_)
    assert outcomes(ledger, clear=True) == [("instance", 4, RESTORED)]
    assert ledger.instances(ANNOTATIONS, with_probability=True) == before
