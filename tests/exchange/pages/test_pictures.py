"""Pictures: colours, outlines, and a view in 3D that mirrors nothing."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.masks import Mask
from napari_fossiledit.reef import Surface

CORNERS = np.array([[0, 0, 0], [0, 0, 3000], [0, 2000, 0], [1000, 0, 0]], dtype=float)
FACES = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


@pytest.fixture
def tetrahedron():
    """A closed surface with corners along z, y and x."""
    return Surface(CORNERS, FACES, contour_volume_um3=1e9)


def test_grey_and_16_bit_slices_become_rgb():
    assert (pictures.as_rgb(np.full((2, 3), 7, dtype=np.uint8)) == 7).all()
    deep = pictures.as_rgb(np.array([[0, 1000]], dtype=np.uint16))
    assert deep.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_outlines_lie_inside_the_mask_and_leave_its_middle():
    solid = np.zeros((9, 9), dtype=bool)
    solid[2:7, 2:7] = True
    picture = np.zeros((9, 9, 3), dtype=np.uint8)
    drawn = (pictures.outline(picture, [Mask.from_array(solid)], (1, 2, 3)) == (1, 2, 3)).all(-1)
    assert drawn.sum() == 16
    assert not drawn[3:6, 3:6].any()
    assert not picture.any()


def test_a_picture_is_shrunk_and_written_whole(tmp_path):
    picture = np.zeros((40, 80, 3), dtype=np.uint8)
    row = pictures.beside(picture, picture, gap=4)
    assert row.shape == (40, 164, 3)
    assert pictures.fitted(row, 82).shape == (20, 82, 3)
    pictures.write_png(tmp_path / "a.png", row)
    assert Image.open(tmp_path / "a.png").size == (164, 40)


def test_the_view_in_3d_is_right_handed(tetrahedron):
    axes = Figure().add_subplot(projection="3d")
    pictures._frame(axes, [tetrahedron], 1000, "mm")
    turned = [a > b for a, b in (axes.get_xlim(), axes.get_ylim(), axes.get_zlim())]
    assert turned == [False, True, True]


def test_specimens_are_drawn_into_a_file(tetrahedron, tmp_path):
    pictures.draw_specimens([tetrahedron], tmp_path / "s.png", "one")
    shown = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(shown, axis=0)) > 20
