"""Regions against shapes that can be counted, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask
from napari_fossiledit.perturb import SliceScene, parse_region, region_mask

SHAPE = (40, 60)


def disc(y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


CUP, OTHER_CUP, CLOT = disc(10, 12, 6), disc(25, 40, 8), disc(12, 18, 5)


def instance(mask: np.ndarray, name: str, id_: int, texture: str = "") -> Instance:
    return Instance(0, name, Mask.from_array(mask), id=id_, texture=texture)


@pytest.fixture
def scene() -> SliceScene:
    return SliceScene(
        np.zeros((*SHAPE, 3), np.uint8),
        (
            instance(CUP, "cup", 3, "pitted"),
            instance(OTHER_CUP, "cup", 5, "mud_filled"),
            instance(CLOT, "clot", 9),
        ),
        name="slice 7",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", np.ones(SHAPE, bool)),
        ("class cup", CUP | OTHER_CUP),
        ("other cup", ~(CUP | OTHER_CUP)),
        ("not class cup", ~(CUP | OTHER_CUP)),
        ("texture pitted", CUP),
        ("instance 9", CLOT),
        ("instance 3+9", CUP | CLOT),
        ("class cup and class clot", CUP & CLOT),
        ("class clot and not class cup", CLOT & ~CUP),
        ("class clot or instance 5", CLOT | OTHER_CUP),
        ("not (class clot or class cup)", ~(CLOT | CUP | OTHER_CUP)),
        ("rock", np.ones(SHAPE, bool)),
        ("grow 0 class cup", CUP | OTHER_CUP),
    ],
)
def test_regions_of_instances(scene: SliceScene, text: str, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(region_mask(parse_region(text), scene), expected)


def test_a_box_is_half_open_and_cut_at_the_slice(scene: SliceScene) -> None:
    found = region_mask(parse_region("box 10:14,5:8"), scene)
    assert found[5:8, 10:14].all()
    assert found.sum() == 12
    assert region_mask(parse_region("box -3:2,38:90"), scene).sum() == 4
    assert region_mask(parse_region("box :"), scene).all()


def test_an_ellipse_has_the_area_of_an_ellipse(scene: SliceScene) -> None:
    found = region_mask(parse_region("ellipse 10:40,5:25"), scene)
    assert found.sum() == pytest.approx(np.pi * 15 * 10, rel=0.02)
    rows, columns = np.nonzero(found)
    assert (columns.min(), columns.max() + 1, rows.min(), rows.max() + 1) == (10, 40, 5, 25)


def test_a_polygon_agrees_with_another_rasteriser(scene: SliceScene) -> None:
    corners = [(5.5, 2.0), (50.2, 8.0), (55.0, 70.0), (20.0, 20.5), (-9.0, 33.0)]
    text = "polygon " + " ".join(f"{x},{y}" for x, y in corners)
    found = region_mask(parse_region(text), scene)
    expected = np.zeros(SHAPE, bool)
    expected[polygon([y for _, y in corners], [x for x, _ in corners], SHAPE)] = True
    # Only pixels on the edge may be seen differently.
    square = np.ones((3, 3), bool)
    inner = ndimage.binary_erosion(expected, square, border_value=1)
    band = ndimage.binary_dilation(expected, square) & ~inner
    assert not ((found != expected) & ~band).any()
    assert (found != expected).sum() < 0.05 * expected.sum()


def test_a_polygon_takes_the_pixels_nearest_to_its_corners(scene: SliceScene) -> None:
    found = region_mask(parse_region("polygon 9.8,4.9 20.2,4.9 20.2,12.3 9.8,12.3"), scene)
    np.testing.assert_array_equal(found, region_mask(parse_region("box 10:21,5:13"), scene))


def test_a_grown_region_holds_all_within_the_distance(scene: SliceScene) -> None:
    away = ndimage.distance_transform_edt(~(CUP | OTHER_CUP))
    found = region_mask(parse_region("grow 3 class cup"), scene)
    np.testing.assert_array_equal(found, away <= 3)


def test_an_annotated_rock_face_is_believed(scene: SliceScene) -> None:
    face = disc(20, 30, 15)
    annotated = SliceScene(scene.image, (*scene.instances, instance(face, "rock_face", 1)))
    np.testing.assert_array_equal(region_mask(parse_region("rock"), annotated), face)


def test_everything_but_a_class_keeps_to_what_is_known(scene: SliceScene) -> None:
    known = np.zeros(SHAPE, bool)
    known[:, :30] = True
    partly = SliceScene(scene.image, scene.instances, complete=known)
    found = region_mask(parse_region("other cup"), partly)
    np.testing.assert_array_equal(found, known & ~(CUP | OTHER_CUP))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class cups", r"Slice 7 has no instance of the class 'cups'; expected one of clot, cup"),
        ("other cups", r"no instance of the class 'cups'"),
        ("texture clotted", r"texture 'clotted'; expected one of mud_filled, pitted"),
        ("instance 3+4", r"Slice 7 has no instance 4; expected one of 3, 5, 9"),
        ("box 60:70,0:5", r"has no pixel of slice 7; expected something within x 0 to 59, y 0 to"),
        ("ellipse 0:9,-20:-4", r"has no pixel of slice 7"),
        ("polygon 70,1 80,1 75,9", r"has no pixel of slice 7"),
        ("polygon -5,-5 -0.6,-5 -0.6,-0.6", r"has no pixel of slice 7"),
        ("not all", r"'not all' is empty on slice 7"),
        ("class cup and not class cup", r"is empty on slice 7"),
    ],
)
def test_what_the_slice_has_not_is_named(scene: SliceScene, text: str, message: str) -> None:
    with pytest.raises(FossilError, match=message):
        region_mask(parse_region(text), scene)


def test_a_slice_without_instances_says_so() -> None:
    with pytest.raises(FossilError, match="none: it has no instances"):
        region_mask(parse_region("class cup"), SliceScene(np.zeros((9, 9), np.uint8)))


def test_instances_of_another_size_are_refused(scene: SliceScene) -> None:
    wrong = SliceScene(np.zeros((20, 30, 3), np.uint8), scene.instances)
    with pytest.raises(FossilError, match="expected 30 x 20 pixels; found 60 x 40"):
        region_mask(parse_region("class cup"), wrong)
