"""Linking: analytic little stacks, and real label volumes."""

from itertools import count

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.labels import masks_of_labels
from napari_fossiledit.params.reconstruct import Branches
from napari_fossiledit.reef.link import (
    LinkKind,
    divided_identities,
    link,
    merged_identities,
)

SHAPE = (40, 60)


def box(z, id, y0, x0, y1, x1, **fields):
    array = np.zeros(SHAPE, dtype=bool)
    array[y0:y1, x0:x1] = True
    return Instance(z, "archaeocyathid", Mask.from_array(array), id=id, **fields)


def test_a_moving_section_stays_one_specimen():
    slices = [[box(z, z + 1, 0, 3 * z, 10, 3 * z + 10)] for z in range(8)]
    assert link(slices).specimens == dict.fromkeys(range(1, 9), 1)


def test_too_little_overlap_begins_a_new_specimen():
    slices = [[box(0, 1, 0, 0, 10, 10)], [box(1, 2, 0, 8, 10, 18)]]
    assert link(slices, min_overlap=0.25).count == 2
    assert link(slices, min_overlap=0.2).count == 1


def test_crossing_overlaps_are_solved_together():
    """The best pair first would leave the other two apart: the sum of the IoU decides."""
    before = [box(0, 1, 0, 0, 10, 20), box(0, 2, 0, 20, 10, 40)]
    after = [box(1, 3, 0, 8, 10, 28), box(1, 4, 0, 28, 10, 48)]
    result = link([before, after])
    assert result.specimens == {1: 1, 2: 2, 3: 1, 4: 2}
    assert result.events == ()


def test_a_branch_stays_with_its_specimen_and_is_listed():
    slices = [[box(0, 1, 0, 0, 10, 30)], [box(1, 2, 0, 0, 10, 14), box(1, 3, 0, 16, 10, 28)]]
    result = link(slices)
    assert result.count == 1
    assert [(e.kind, e.slice, e.before, e.after) for e in result.events] == [
        (LinkKind.SPLIT, 1, 1, 3)
    ]
    cut = link(slices, branches=Branches.CUT)
    assert (cut.specimens, cut.events) == ({1: 1, 2: 1, 3: 2}, result.events)
    assert link(slices, branch_overlap=1.1).count == 2


def test_growing_together_is_listed_as_a_merge():
    slices = [[box(0, 1, 0, 0, 10, 14), box(0, 2, 0, 16, 10, 28)], [box(1, 3, 0, 0, 10, 30)]]
    result = link(slices)
    assert result.specimens == {1: 1, 2: 1, 3: 1}
    assert [e.summary() for e in result.events] == [
        {"kind": "merge", "slice": 1, "specimen": 1, "before": 2, "after": 3}
        | {"pixels": pytest.approx(0.11 * 120)}
    ]


def test_two_specimens_under_one_mask_for_a_slice_stay_two():
    """What goes on beyond the mask has not grown together, and is no branch."""
    two = [(0, 0, 10, 14), (0, 16, 10, 28)]
    slices = [
        [box(0, 1, *two[0]), box(0, 2, *two[1])],
        [box(1, 3, 0, 0, 10, 28)],
        [box(2, 4, *two[0]), box(2, 5, *two[1])],
    ]
    result = link(slices)
    assert result.specimens == {1: 1, 2: 2, 3: 1, 4: 1, 5: 2}
    assert [(d.kind, d.before, d.after) for d in result.doubts][-1] == (LinkKind.GAP, 2, 5)
    assert link(slices, max_gap=0).count == 1


def test_across_a_slice_with_others_two_sections_must_be_alike():
    other = box(1, 9, 20, 40, 30, 50)
    slices = [[box(0, 1, 0, 0, 10, 10)], [other], [box(2, 2, 0, 6, 10, 16)]]
    assert link(slices).count == 3
    # Where nothing was seen at all, nobody may have looked.
    assert link([slices[0], slices[2]]).count == 1


def test_two_masks_of_one_section_are_one_specimen():
    slices = [[box(0, 1, 0, 0, 10, 10), box(0, 2, 0, 2, 10, 11)]]
    assert link(slices).specimens == {1: 1, 2: 1}
    assert link(slices, known={1: 1, 2: 2}).specimens == {1: 1, 2: 2}


def test_links_that_may_be_wrong_are_listed():
    slices = [
        [box(0, 1, 0, 0, 10, 10), box(0, 2, 0, 20, 20, 50), box(0, 3, 30, 0, 40, 10)],
        [box(1, 4, 0, 5, 10, 15), box(1, 5, 0, 20, 4, 24), box(1, 6, 30, 0, 40, 10)],
    ]
    result = link(slices)
    assert result.specimens == {1: 1, 4: 1, 2: 2, 5: 2, 3: 3, 6: 3}
    assert {(d.kind, d.slice, d.specimen, d.before) for d in result.doubts} == {
        (LinkKind.JUMP, 1, 1, 1),
        (LinkKind.JUMP, 1, 2, 2),
    }
    assert result.events == ()


def test_a_specimen_of_one_pixel_is_a_specimen():
    assert link([[box(0, 1, 0, 0, 1, 1)], [box(1, 2, 5, 5, 6, 6)]]).specimens == {1: 1, 2: 2}


def test_branches_that_rejoin_are_no_second_event():
    slices = [
        [box(0, 1, 0, 0, 10, 30)],
        [box(1, 2, 0, 0, 10, 14), box(1, 3, 0, 16, 10, 28)],
        [box(2, 4, 0, 0, 10, 30)],
    ]
    assert [e.kind for e in link(slices).events] == [LinkKind.SPLIT]


@pytest.mark.parametrize("last", [3, 5])
def test_a_specimen_nested_in_another_stays_its_own(last):
    """It begins and may end while the large one around it goes on."""
    around = [box(z, z + 1, 0, 0, 30, 40) for z in range(6)]
    slices = [
        [a, box(z, z + 11, 8, 8, 18, 18)] if 2 <= z <= last else [a] for z, a in enumerate(around)
    ]
    result = link(slices)
    inner = {z + 11: 2 for z in range(2, last + 1)}
    assert result.specimens == dict.fromkeys(range(1, 7), 1) | inner
    assert result.events == ()


@pytest.mark.parametrize(("max_gap", "specimens"), [(0, 2), (1, 1), (3, 1)])
@pytest.mark.parametrize("empty", [[], None])
def test_a_gap_is_bridged_up_to_the_limit(max_gap, specimens, empty):
    """An empty slice and one that is left out are the same."""
    slices = [[box(0, 1, 0, 0, 10, 10)], empty, [box(2, 2, 0, 0, 10, 10)]]
    assert link([s for s in slices if s is not None], max_gap=max_gap).count == specimens


def test_the_nearer_slice_is_linked_first():
    slices = [
        [box(0, 1, 0, 0, 10, 10), box(0, 2, 0, 20, 10, 30)],
        [box(1, 3, 0, 1, 10, 11)],
        [box(2, 4, 0, 0, 10, 10), box(2, 5, 0, 20, 10, 30)],
    ]
    result = link(slices, max_gap=1)
    assert result.specimens == {1: 1, 3: 1, 4: 1, 2: 2, 5: 2}


def test_cavities_follow_their_bodies():
    slices = [
        [
            box(0, 1, 0, 0, 12, 12),
            box(0, 2, 0, 30, 12, 42),
            box(0, 3, 3, 33, 6, 36, part=Part.CAVITY, parent=2),
            box(0, 4, 3, 3, 6, 6, part=Part.CAVITY),
            box(0, 5, 30, 50, 33, 53, part=Part.CAVITY),
        ]
    ]
    result = link(slices)
    assert result.specimens == {1: 1, 2: 2, 3: 2, 4: 1, 5: None}
    assert (result.count, result.dropped) == (2, 1)


def test_short_specimens_get_no_number():
    slices = [[box(0, 1, 0, 0, 9, 9), box(0, 2, 20, 20, 29, 29)], [box(1, 3, 20, 20, 29, 29)]]
    assert link(slices, min_slices=2).specimens == {1: None, 2: 1, 3: 1}


def test_one_value_painted_through_slices_is_one_specimen():
    slices = [[box(z, 7, 10 * z, 0, 10 * z + 5, 5)] for z in range(3)]
    assert link(slices, min_slices=3).specimens == {7: 1}


def test_order_within_a_slice_does_not_matter():
    rng = np.random.default_rng(1)
    slices = []
    ids = count(1)
    for z in range(4):
        corners = rng.integers(0, 25, size=(6, 2))
        slices.append([box(z, next(ids), y, x, y + 9, x + 9) for y, x in corners.tolist()])
    turned = [s[::-1] for s in slices]
    assert link(slices) == link(turned)


def test_empty_masks_and_no_slices_are_harmless():
    assert link([]).count == 0
    assert link([[box(0, 1, 0, 0, 0, 0)], [box(1, 2, 0, 0, 5, 5)]]).count == 2


@pytest.mark.parametrize(
    "slices",
    [
        [[box(1, 1, 0, 0, 5, 5)], [box(0, 2, 0, 0, 5, 5)]],
        [[box(0, 1, 0, 0, 5, 5), box(1, 2, 0, 0, 5, 5)]],
        [[box(0, None, 0, 0, 5, 5)]],
    ],
)
def test_unordered_slices_and_missing_ids_are_refused(slices):
    with pytest.raises(FossilError, match=r"slice"):
        link(slices)


def instances_of(volume):
    """Instances of a label volume, and the value each had."""
    ids, values = count(1), {}
    slices = []
    for z, labels in enumerate(volume):
        masks = masks_of_labels(labels) if labels.any() else {}
        found = [(next(ids), value, mask) for value, mask in masks.items()]
        values |= {i: value for i, value, _ in found}
        slices.append([Instance(z, "a", mask, id=i) for i, _, mask in found])
    return slices, values


@pytest.mark.real_data
def test_chloroplasts_relink_to_their_34_specimens(shared_data):
    files = sorted((shared_data / "chloroplast/labels").glob("*.png"))
    slices, values = instances_of([np.array(Image.open(f)) for f in files])
    result = link(slices)
    assert result.count == len(set(values.values())) == 34
    assert merged_identities(result, values) == divided_identities(result, values) == {}


@pytest.mark.real_data
def test_archaeocyaths_that_grow_together_are_listed_against_the_file(shared_data):
    volume = tifffile.imread(shared_data / "rlg136a/rlg136a_outer_labels_zyx.tif")
    slices, values = instances_of(volume)
    result = link(slices)
    merged = merged_identities(result, values)
    assert result.count == 8 - sum(len(known) - 1 for known in merged.values())
    assert divided_identities(result, values) == {}
    # Individual 3 runs into individual 2 with 99 % of its last section.
    assert (2, 3) in merged.values()
    assert [(e.kind, e.slice) for e in result.events] == [(LinkKind.MERGE, 89)]


def test_known_specimens_stay_what_they_are():
    """Sections of one are linked however far apart, those of two never, others follow them."""
    place = (0, 0, 10, 10)
    slices = [
        [box(0, 1, *place)],
        [box(1, 2, *place)],
        [box(2, 3, *place)],
        [box(9, 4, 30, 30, 40, 40), box(9, 5, *place)],
    ]
    known = {1: 40, 3: 12, 4: 40}
    assert link(slices, known=known, min_slices=3).specimens == {
        1: 40,
        2: 40,
        3: 12,
        4: 40,
        5: None,
    }
    assert link(slices, known=known).specimens[5] == 41


def test_a_section_over_two_known_specimens_goes_to_the_better_overlap():
    slices = [[box(0, 1, 0, 0, 10, 10), box(0, 2, 0, 12, 10, 22)], [box(1, 3, 0, 2, 10, 20)]]
    result = link(slices, known={1: 0, 2: 6})
    assert (result.specimens, result.events) == ({1: 0, 2: 6, 3: 0}, ())
    assert link(slices).count == 1
