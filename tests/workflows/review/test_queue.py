"""The queue over the stack: built once, then kept true by whatever changes the masks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.params.annotations import FillParams, TraceParams
from napari_fossiledit.params.review import CorrectParams, NextParams, QueueParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.selection import Doubt, Place
from napari_fossiledit.workflows.annotate.corrections import correct, fill, trace
from napari_fossiledit.workflows.review import queue
from napari_fossiledit.workflows.review.journal import undo
from napari_fossiledit.workflows.stack import new

SHAPE = (60, 80)
MODEL = "model:reef:0123456789ab"


def square(y: int, x: int, size: int = 10) -> Mask:
    return Mask.from_crop(np.ones((size, size), dtype=bool), (y, x), SHAPE)


def predicted(z: int, mask: Mask, score: float) -> Instance:
    return Instance(z, "archaeocyathid", mask, score, origin=Origin.MODEL)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Four slices with a fossil through all of them, one that is missing in slice 2, a weak one."""
    images = tmp_path / "images"
    images.mkdir()
    for z in range(4):
        imsave(images / f"{z}.png", np.full(SHAPE, 90, np.uint8), check_contrast=False)
    made = tmp_path / "rock.fossil"
    new.run(made, images, NewParams(pixel_size=10, slice_spacing=20))
    with Project.open(made) as project:
        for z in range(4):
            bodies = [predicted(z, square(10, 10), 0.99)]
            bodies += [predicted(z, square(40, 10), 0.9)] if z != 2 else []
            bodies += [predicted(z, square(10, 50), 0.3)] if z == 1 else []
            project.ledger.store(MODEL, z, bodies)
    fill(made, FillParams())
    return made


def best(path: Path, **more: object) -> queue.PlaceToSee:
    return queue.next_place(path, NextParams(**more)).places[0]


def test_the_queue_is_built_and_lists_what_is_most_at_stake(path: Path) -> None:
    result = queue.build(path, QueueParams())
    assert {str(k): n for k, n in result.counts.items()} == {
        "alone": 2, "low score": 1, "gap": 1, "left out": 1, "unreviewed": 4,
    }  # fmt: skip
    assert (result.reviewed, result.masks, result.notes) == (0, 7, ())
    first = result.places[0]
    assert (first.place.slice, first.place.doubt) == (2, Doubt.GAP)
    assert first.volume_um3 == pytest.approx(first.place.pixels * 10 * 10 * 20)
    volumes = [p.volume_um3 for p in result.places]
    assert volumes == sorted(volumes, reverse=True)
    assert result.volume_um3 == pytest.approx(sum(volumes))
    assert queue.build(path, QueueParams(limit=2)).places == result.places[:2]
    assert result.summary()["counts"]["gap"] == 1


def test_what_is_decided_leaves_the_queue_and_undoing_brings_it_back(path: Path) -> None:
    queue.build(path, QueueParams())
    gap = best(path, doubt="gap").place
    assert correct(path, CorrectParams(slice=2, reject=str(gap.missing[0]))).rejected == gap.missing
    assert queue.next_place(path, NextParams(doubt="gap")).places == ()
    undo(path)
    assert best(path, doubt="gap").place == gap
    left = best(path, doubt="left out").place
    correct(path, CorrectParams(slice=1, accept=str(left.predictions[0]), source=MODEL))
    assert queue.next_place(path, NextParams(doubt="left out")).places == ()
    correct(path, CorrectParams(slice=3, accept="all"))
    result = queue.next_place(path, NextParams())
    assert (result.reviewed, result.masks) == (3, 8)
    assert all(p.place.slice != 3 for p in queue.build(path, QueueParams()).places)
    trace(path, TraceParams(slices="0"))
    result = queue.next_place(path, NextParams(slice=0))
    assert (result.places, result.reviewed) == ((), 5)


def test_what_another_hand_changes_is_looked_through_again(path: Path) -> None:
    queue.build(path, QueueParams())
    with Project.open(path) as project:
        ledger = project.ledger
        assert ledger.places.changed() == []
        (one,) = ledger.instances(ANNOTATIONS, slices=[2])
        ledger.edit(2, put=[replace(one, mask=square(10, 30))])
        assert ledger.places.changed() == [1, 2, 3]
    jumped = best(path, slice=2).place
    # It covers nothing of what is below and above, so that this is missing now.
    assert {d for d, _ in jumped.against} >= {Doubt.GAP} or jumped.doubt is Doubt.ALONE
    with Project.open(path) as project:
        assert project.ledger.places.changed() == []


def test_slices_with_predictions_only_are_told(path: Path) -> None:
    with Project.open(path) as project:
        project.ledger.forget(ANNOTATIONS, [3])
    (note,) = queue.build(path, QueueParams()).notes
    assert note.startswith("Slices 3 have predictions only")
    assert best(path, slice=3).place.doubt is Doubt.LEFT_OUT


def test_a_queue_that_is_not_there_or_cannot_be(path: Path, tmp_path: Path) -> None:
    with pytest.raises(FossilError, match=r"no queue yet.*review queue"):
        queue.next_place(path, NextParams())
    queue.build(path, QueueParams())
    with pytest.raises(FossilError, match="no kind of doubt 'ugly'; expected low score, unlike"):
        queue.next_place(path, NextParams(doubt="ugly"))
    with pytest.raises(FossilError, match="annotations cannot be compared with themselves"):
        queue.build(path, QueueParams(source=ANNOTATIONS))
    with pytest.raises(FossilError, match="Slice 4 is not in the stack"):
        queue.next_place(path, NextParams(slice=4))
    empty = tmp_path / "empty.fossil"
    new.run(empty, tmp_path / "images", NewParams(pixel_size=10, slice_spacing=20))
    with pytest.raises(FossilError, match="no masks that could be looked through"):
        queue.build(empty, QueueParams())


def test_what_the_places_are_compared_with_makes_them_be_found_anew(path: Path) -> None:
    queue.build(path, QueueParams())
    with Project.open(path) as project:
        ledger = project.ledger
        ledger.forget(MODEL, [1])
        (found,) = ledger.store(MODEL, 1, [predicted(1, square(40, 50), 0.9)])
        ledger.store("model:other:0123456789ab", 3, [predicted(3, square(40, 50), 0.9)])
        assert ledger.places.changed() == [1]
    assert best(path, slice=1, doubt="left out").place.predictions == (found,)
    # Neighbours see whether the slice is traced, and which masks are rock.
    trace(path, TraceParams(slices="2"))
    with Project.open(path) as project:
        assert project.ledger.places.changed() == [1, 2, 3]
        project.ledger.places.mark([])
        (first, *_) = project.ledger.instances(ANNOTATIONS, slices=[2])
        project.ledger.describe([first.id or 0], class_name="rock")
        assert project.ledger.places.changed() == [1, 2, 3]


def test_the_rest_of_a_slice_that_is_traced_in_part_is_looked_through(path: Path) -> None:
    trace(path, TraceParams(slices="1", region="0:5,0:5"))
    result = queue.build(path, QueueParams())
    assert result.reviewed == 0
    assert best(path, slice=1).place.slice == 1


def test_a_place_comes_back_as_it_was_found(path: Path) -> None:
    against = ((Doubt.SCORE, 3.5), (Doubt.GAP, 1.0))
    place = Place(1, Doubt.SCORE, against, (0, 1, 5, 6), ids=(4, 7), missing=(2,))
    with Project.open(path) as project:
        project.ledger.places.store(1, [place])
        assert {*project.ledger.places.best(5)} == {place}
