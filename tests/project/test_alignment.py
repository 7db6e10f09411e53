"""What a project shows, keeps and undoes where its photographs are laid over each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.project import ANNOTATIONS, Project

JUMP = Placement(3, -2)


def square(y: int, x: int, z: int = 1) -> Instance:
    return Instance(z, "archaeocyathid", Mask.from_crop(np.ones((9, 9), bool), (y, x), (60, 80)))


@pytest.fixture
def project(tmp_path: Path):
    from PIL import Image

    from napari_fossiledit.params.stack import NewParams
    from napari_fossiledit.stacks import open_stack

    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for z in range(4):
        pixels = rng.integers(1, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{z}.png")
    stack = open_stack(tmp_path / "photos")
    with Project.create(
        tmp_path / "p.fossil", stack, NewParams(pixel_size=10, slice_spacing=20)
    ) as made:
        yield made


def test_masks_follow_their_photographs_and_come_back(project: Project) -> None:
    ledger = project.ledger
    drawn, found = square(20, 30), square(40, 50)
    ledger.edit(1, put=[drawn], traced=square(10, 10).mask)
    ledger.store("model:net@1", 1, [found])
    raw = project.stack.read(1).copy()
    ledger.set_alignment(Alignment.of({1: JUMP}))
    assert [i.mask for i in ledger.instances(ANNOTATIONS)] == [square(23, 28).mask]
    assert [i.mask for i in ledger.instances("model:net@1")] == [square(43, 48).mask]
    assert ledger.traced() == {1: square(13, 8).mask}
    np.testing.assert_array_equal(project.stack.read(1)[3:, :-2], raw[:-3, 2:])
    np.testing.assert_array_equal(project.stack.levels()[0][1], project.stack.read(1))
    np.testing.assert_array_equal(project.stack.read(0), project.photos.read(0))
    # Drawn in one frame, read in another: each mask keeps its own.
    ledger.edit(1, put=[square(5, 60)])
    ledger.undo()
    ledger.undo()
    assert [i.mask for i in ledger.instances(ANNOTATIONS)] == [drawn.mask]
    np.testing.assert_array_equal(project.stack.read(1), raw)
    ledger.redo()
    ledger.redo()
    ledger.set_alignment(Alignment())
    assert {i.mask for i in ledger.instances(ANNOTATIONS)} == {drawn.mask, square(2, 62).mask}


def test_results_stay_made_from_their_photographs(project: Project) -> None:
    project.contents.read(1)
    project.ledger.store("model:net@1", 1, [square(40, 50)])
    project.ledger.set_alignment(Alignment.of({1: Placement(0.5, 0.25, 0.1)}))
    project.contents.check([1], read_new=True)
    assert project.contents.stale("model:net@1") == []
    assert not np.array_equal(project.contents.read(1), project.contents.read(1, placed=False))


def test_a_row_that_was_changed_in_another_frame_is_written_in_it(project: Project) -> None:
    ledger = project.ledger
    (id_,) = ledger.edit(1, put=[square(20, 30)])
    ledger.set_alignment(Alignment.of({1: JUMP}))
    ledger.describe([id_], texture="pitted")
    (there,) = ledger.instances(ANNOTATIONS)
    assert (there.texture, there.mask) == ("pitted", square(23, 28).mask)
    ledger.edit(1, put=[there])
    assert [i.mask for i in ledger.instances(ANNOTATIONS)] == [square(23, 28).mask]
    ledger.undo()
    assert [i.mask for i in ledger.instances(ANNOTATIONS)] == [square(23, 28).mask]


def test_places_are_looked_for_anew_where_masks_have_moved(project: Project) -> None:
    ledger = project.ledger
    for change in (lambda: ledger.set_alignment(Alignment.of({1: JUMP})), ledger.undo, ledger.redo):
        with ledger.transaction() as db:
            db.execute("DELETE FROM changed")
            db.execute("INSERT INTO places VALUES (2, 'missing', 1.0, '{}')")
        change()
        assert ledger.places.changed() == [2]
