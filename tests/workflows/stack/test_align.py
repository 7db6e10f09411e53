"""Photographs that are laid over each other: motions found, and told by hand."""

from __future__ import annotations

import shutil
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.params.annotations import ExportParams, ImportParams
from napari_fossiledit.params.stack import Align, AlignParams, NewParams, PlaceParams
from napari_fossiledit.placement import Alignment, Placement, placed
from napari_fossiledit.progress import Job
from napari_fossiledit.project import ANNOTATIONS, Ledger, Project
from napari_fossiledit.stacks import registration
from napari_fossiledit.workflows.annotate.files import export_annotations, import_annotations
from napari_fossiledit.workflows.review import journal
from napari_fossiledit.workflows.stack import align, new

COUNT, SIZE = 9, (192, 256)
JUMP = Placement(6.4, -9.3, 1.2)
BAD = 7
"""A slice that alone lies elsewhere, after the jump at slice 4."""


def made(folder: Path, pixels: list[np.ndarray]) -> Path:
    (folder / "photos").mkdir()
    for z, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"photos/{z:02}.png")
    new.run(folder / "p.fossil", folder / "photos", NewParams(pixel_size=70, slice_spacing=500))
    return folder / "p.fossil"


def rock(seed: int) -> list[np.ndarray]:
    """Return slices of something that changes from one to the next as rock does."""
    noise = np.random.default_rng(seed).standard_normal((COUNT, *SIZE)).astype(np.float32)
    grey = gaussian_filter(noise, (2.5, 2.5, 2.5)) * 2000 + 128
    return [np.stack([s, s // 2, s // 3], axis=2) for s in grey.clip(0, 255).astype(np.uint8)]


@pytest.fixture(scope="module")
def slices() -> list[np.ndarray]:
    return rock(3)


@pytest.fixture(scope="module")
def jumped(slices: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    moved = [placed(s, JUMP, SIZE) if z >= 4 else s for z, s in enumerate(slices)]
    moved[BAD] = placed(moved[BAD], Placement(15, 12), SIZE)
    return made(tmp_path_factory.mktemp("jumped"), moved)


@pytest.fixture
def project(jumped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(jumped.parent, tmp_path / "copy") / jumped.name)


def entries(project: Path) -> tuple[tuple[int, Placement], ...]:
    with Project.open(project, read_only=True) as opened:
        return opened.ledger.alignment().entries


def miss(found: Placement, true: Placement) -> float:
    corners = np.array([[0.0, 0], [0, SIZE[1]], [SIZE[0], 0], SIZE])
    return float(np.abs(found.points(corners, SIZE) - true.points(corners, SIZE)).max())


def test_a_jump_is_one_motion_for_all_that_follows(project: Path) -> None:
    result = align.run(project)
    assert (result.jumps, result.alone) == ((4,), (BAD,))
    there = result.alignment
    assert [z for z, _ in there.entries] == [4, BAD, BAD + 1]
    assert there.at(8) == there.at(4)
    assert miss(there.at(4), JUMP.inverse) < 1
    assert miss(there.at(BAD), Placement(15, 12).after(JUMP).inverse) < 1.5
    assert entries(project) == there.entries == align.show(project).alignment.entries
    # Photographs are compared as they were taken: it is found again as it was.
    assert align.run(project).alignment == there
    journal.undo(project)
    assert entries(project) == ()


@pytest.mark.parametrize(
    ("jumps", "unread", "found"),
    [
        ((8, 9), (), (8, 9)),
        ((8, 9, 10), (), (8, 9, 10)),
        ((10,), (7, 8, 9), (7,)),
        ((8,), (17, 18, 19), (8,)),
    ],
)
def test_jumps_are_told_apart_and_seen_past_what_cannot_be_read(
    jumps: tuple[int, ...], unread: tuple[int, ...], found: tuple[int, ...]
) -> None:
    true = Alignment()
    for z in jumps:
        true = true.moved(z, Placement(9, z))

    def between(a: int, b: int) -> Placement | None:
        return None if {a, b} & {*unread} else true.at(a).inverse.after(true.at(b))

    motions = {z: between(z - 1, z) for z in range(1, 20)}
    told = registration.find_jumps(motions, between, SIZE)
    assert tuple(told.jumps) == found
    assert all(miss(told.alignment.at(z), true.at(z)) < 1e-6 for z in {*range(20)} - {*unread})


def test_every_jump_of_a_long_stack_is_found() -> None:
    true, looked = Alignment(), []
    for z in range(100, 3000, 100):
        true = true.moved(z, Placement(9, z % 7))

    def between(a: int, b: int) -> Placement | None:
        looked.append((a, b))
        return true.at(a).inverse.after(true.at(b))

    motions = {z: between(z - 1, z) for z in range(1, 3000)}
    found = registration.find_jumps(motions, between, SIZE)
    assert [*found.jumps] == [*range(100, 3000, 100)]
    assert len(looked) < 2 * 2999
    assert all(miss(found.alignment.at(z), true.at(z)) < 1e-6 for z in range(0, 3000, 50))


def test_some_slices_are_laid_anew_and_what_follows_follows(project: Path) -> None:
    align.run(project)
    by_hand = align.place(project, PlaceParams(z=6, shift="1,0")).alignment

    def step(there: Alignment, z: int) -> Placement:
        return there.at(z - 1).inverse.after(there.at(z))

    result = align.run(project, AlignParams(how=Align.NONE, slices="2-5"))
    assert "Of what was found or set before, 1 replaced" in result.notes[0]
    assert [z for z, _ in result.alignment.entries] == [6, BAD, BAD + 1]
    assert all(miss(step(result.alignment, z), step(by_hand, z)) < 1e-9 for z in (6, 7, 8))
    again = align.run(project, AlignParams(slices="2-5")).alignment
    # What is usual among fewer slices is something else by hundredths of a pixel.
    assert all(miss(again.at(z), by_hand.at(z)) < 0.1 for z in range(COUNT))
    assert align.run(project, AlignParams(slices="2-5")).alignment == again
    for text, found in (("4", "4"), ("0-2,5", "0-2,5")):
        with pytest.raises(FossilError, match=f"in a row.*such as 10-20.*found {found}"):
            align.run(project, AlignParams(slices=text))


def test_where_no_jump_can_be_found_it_is_said(tmp_path: Path, slices: list[np.ndarray]) -> None:
    small = [s[:60, :80] for s in slices[:3]]
    notes = align.run(made(tmp_path, small)).notes
    assert "in fewer than 4 slices none can be told" in notes[0]
    assert "80 x 60 pixels show too little" in notes[1]
    assert len(notes) == 2


def test_a_damaged_alignment_can_be_forgotten(project: Path) -> None:
    with Project.open(project) as opened, opened.ledger.transaction() as db:
        db.execute("INSERT OR REPLACE INTO meta VALUES ('alignment', '[[1, 2')")
    with pytest.raises(FossilError, match=r"alignment of the slices is damaged.*--how none"):
        align.show(project)
    align.run(project, AlignParams(how=Align.NONE))
    assert entries(project) == ()


def test_stacks_that_do_not_jump_stay_as_they_are(tmp_path: Path, slices: list[np.ndarray]) -> None:
    # Also where a photograph is there twice: no motion at all is a motion that was found.
    project = made(tmp_path, [*slices[:4], slices[3]])
    for _ in range(2):
        assert align.run(project).alignment == Alignment()
    with Project.open(project) as opened:
        assert opened.ledger.motions()[4][1] == Placement()


def test_neighbours_lie_over_each_other(project: Path) -> None:
    result = align.run(project, AlignParams(how=Align.NEIGHBOURS))
    assert "how far fossils lean is a guess" in " ".join(result.notes)
    there = result.alignment
    step = there.at(3).inverse.after(there.at(4))
    assert miss(step, JUMP.inverse) < 1
    part = align.run(project, AlignParams(how=Align.NEIGHBOURS, slices="1-6")).alignment
    # Also where the first slice of a part lies off the way of those around it.
    assert [part.at(z) for z in (0, 1)] == [there.at(z) for z in (0, 1)]
    assert miss(part.at(3).inverse.after(part.at(4)), JUMP.inverse) < 1
    align.run(project, AlignParams(how=Align.NONE))
    assert entries(project) == ()


def test_a_stopped_run_goes_on(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, compared, note = threading.Event(), [], Ledger.note_motion

    def noted(*args):
        note(*args)
        compared.append(args)
        stop.set()

    monkeypatch.setattr(Ledger, "note_motion", noted)
    with pytest.raises(CancelledError):
        align.run(project, job=Job(cancelled=stop.is_set))
    with Project.open(project) as opened:
        kept = len(opened.ledger.motions())
        assert opened.ledger.alignment() == Alignment()
    assert 1 <= kept < COUNT - 1
    compared.clear()
    align.run(project)
    assert len(compared) == COUNT - 1 - kept
    # A photograph that was replaced is compared again, with both of its neighbours.
    compared.clear()
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(project.parent / "photos/03.png")
    result = align.run(project)
    assert len(compared) == 2
    assert "Slices 3-4 show nothing that the slice before shows" in result.notes[0]


def test_what_cannot_be_compared_is_said(tmp_path: Path, slices: list[np.ndarray]) -> None:
    other = rock(9)[0]
    blank = np.full((*SIZE, 3), 90, np.uint8)
    project = made(tmp_path, [slices[0], blank, slices[1], other, slices[2], slices[3]])
    (tmp_path / "photos/05.png").write_bytes(b"no image")
    result = align.run(project)
    assert result.alignment == Alignment()
    assert "Slices 1-4 show nothing that the slice before shows" in result.notes[0]
    assert "Slices 5 could not be compared" in result.notes[1]
    assert "05.png" in result.notes[1]


def test_slices_are_moved_by_hand(project: Path) -> None:
    move = partial(align.place, project)
    move(PlaceParams(z=3, shift="2.5,-1", turn=0.5))
    first = Placement(-1, 2.5, 0.5)
    assert entries(project) == ((3, first),)
    move(PlaceParams(z=5, shift="1,0", alone=True))
    assert entries(project) == ((3, first), (5, Placement(0, 1).after(first)), (6, first))
    for _ in range(2):
        journal.undo(project)
    assert entries(project) == ()
    there = np.array([[30.0, 40], [150, 60], [90, 200]])
    here = JUMP.inverse.points(there, SIZE)
    pairs = (f"{b},{a}={d},{c}" for (a, b), (c, d) in zip(here, there, strict=True))
    move(PlaceParams(z=4, points=" ".join(pairs)))
    assert miss(entries(project)[0][1], JUMP) < 1e-6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"z": 9, "turn": 1}, r"Slice 9 is not in.*0 to 8"),
        ({"z": 2, "shift": "1"}, r"motion cannot be read.*found 1\."),
        ({"z": 2, "shift": "1,two"}, r"motion cannot be read.*found 1,two"),
        ({"z": 2, "shift": "nan,1"}, "cannot be placed so"),
        ({"z": 2, "points": "1,1=2,2 3,3"}, r"motion cannot be read.*found 1,1=2,2 3,3"),
        ({"z": 2, "points": "1,1=2,2 1,1=2,2"}, "all at one place"),
    ],
)
def test_what_is_no_motion_is_refused(jumped: Path, given: dict, message: str) -> None:
    with pytest.raises(FossilError, match=f"(?s){message}"):
        align.place(jumped, PlaceParams(**given))
    assert entries(jumped) == ()


def test_a_turn_is_a_number() -> None:
    with pytest.raises(ValidationError, match="valid number"):
        PlaceParams(z=1, turn="a little")


def test_files_of_masks_lie_in_the_photographs(project: Path, tmp_path: Path) -> None:
    mask = Mask.from_crop(np.ones((20, 30), bool), (60, 70), SIZE)
    with Project.open(project) as opened:
        opened.ledger.edit(5, put=[Instance(5, "archaeocyathid", mask)])
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    export_annotations(project, ExportParams(file=before))
    align.place(project, PlaceParams(z=4, shift="3.3,-7.8", turn=2))
    result = export_annotations(project, ExportParams(file=after))
    assert "lie in the photographs as those were taken" in " ".join(result.notes)
    assert (result.identical, after.read_text()) == (1, before.read_text())
    with Project.open(project) as opened:
        (there,) = opened.ledger.instances(ANNOTATIONS)
        opened.ledger.edit(5, remove=[there.id])
    assert there.mask != mask
    result = import_annotations(project, ImportParams(file=after))
    assert "lie in the photographs as those were taken" in " ".join(result.notes)
    with Project.open(project) as opened:
        assert [i.mask for i in opened.ledger.instances(ANNOTATIONS)] == [there.mask]
    # A volume is of slices that lie over each other.
    result = export_annotations(project, ExportParams(file=tmp_path / "labels.tif"))
    assert "lie over each other as the slices do now" in " ".join(result.notes)
    align.run(project, AlignParams(how=Align.NONE))
    with Project.open(project) as opened:
        assert [i.mask for i in opened.ledger.instances(ANNOTATIONS)] == [mask]


def test_greys_and_16_bit_give_the_same_motion(slices: list[np.ndarray]) -> None:
    grey = [s.mean(axis=2) for s in (slices[0], placed(slices[0], JUMP, SIZE))]
    fixed, moving = (registration.Reduced.of((g * 16).astype(np.uint16)) for g in grey)
    found = registration.register(fixed, moving)
    assert found is not None
    assert miss(found, JUMP.inverse) < 0.3
