"""Clicked outlines: areas kept, outliers dropped, other files refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.io import savemat

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tracings.outlines import OutlineFile, rasterised, read_outlines
from napari_fossiledit.exchange.tracings.tracing_file import Target
from napari_fossiledit.masks import Part

SHAPE = (60, 80)
TARGET = Target(tuple("abcdef"), SHAPE)


def circle(x: float, y: float, radius: float, count: int = 60) -> np.ndarray:
    """Clicks [x, y, button] on a circle, in MATLAB's pixels."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
    return np.column_stack([points, np.ones(count)])


def cell(*items: object) -> np.ndarray:
    made = np.empty((1, len(items)), dtype=object)
    for n, item in enumerate(items):
        made[0, n] = item
    return made


NOTHING = np.empty((0, 0))


def write(path: Path, *individuals: object, name: str = "outers") -> Path:
    savemat(path, {name: cell(*individuals)})
    return path


def shoelace(contour: np.ndarray) -> float:
    x, y = contour.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


def test_individuals_become_specimens(tmp_path: Path) -> None:
    one = cell(circle(21, 31, 10), NOTHING, circle(21, 31, 12))
    two = cell(NOTHING, NOTHING, NOTHING, circle(51, 31, 8))
    file = OutlineFile(write(tmp_path / "o.mat", one, two), target=TARGET, class_name="shell")
    slices = list(file.traced_slices())
    assert [(s.z, [i.specimen for i in s.instances]) for s in slices] == [
        (0, [1]),
        (2, [1]),
        (3, [2]),
    ]
    assert (file.count, file.identified, file.problems) == (3, True, [])
    mask = slices[0].instances[0].mask
    # MATLAB's pixel 21 is ours 20.
    assert mask.to_array()[30, 20]
    assert mask.area == pytest.approx(np.pi * 100, rel=0.03)
    y, x = (v.mean() for v in np.nonzero(mask.to_array()))
    assert (y, x) == pytest.approx((30, 20), abs=0.2)


def test_outliers_are_dropped(tmp_path: Path) -> None:
    clicks = circle(30, 30, 10)
    stray = np.array([[70.0, 50.0, 120.0], [5.0, 5.0, 88.0], [np.nan, 3.0, 1.0]])
    outlines = read_outlines(write(tmp_path / "o.mat", cell(np.vstack([clicks, stray]))))
    assert outlines.contours[0][0] == pytest.approx(clicks[:, :2] - 1)


def test_a_contour_keeps_its_area_wherever_it_lies() -> None:
    rng = np.random.default_rng(0)
    areas, pixels = 0.0, 0
    for _ in range(200):
        contour = circle(*rng.uniform(25, 35, 2), rng.uniform(4, 15), 12)[:, :2]
        areas += shoelace(contour)
        pixels += rasterised(contour, SHAPE).area
    assert pixels == pytest.approx(areas, rel=0.005)


def test_a_contour_of_whole_numbers_is_not_too_large() -> None:
    square = np.array([[10.0, 5], [20, 5], [20, 15], [10, 15]])
    assert rasterised(square, SHAPE).area == 100


def test_what_lies_outside_the_slice_is_cut_off_or_told(tmp_path: Path) -> None:
    items = [cell(circle(1, 30, 10)), cell(circle(-30, 30, 10))]
    file = OutlineFile(write(tmp_path / "o.mat", *items), target=TARGET, class_name="a")
    (found,) = file.traced_slices()
    assert found.instances[0].mask.area == pytest.approx(np.pi * 50, rel=0.1)
    assert str(file.problems[0]).startswith("individual 2 in slice 0: its outline holds no pixel")


@pytest.mark.parametrize(
    ("file", "variable", "told", "part"),
    [
        ("a.mat", "contours", None, Part.BODY),
        ("rock_all_inners.mat", "contours", None, Part.CAVITY),
        ("a.mat", "rock_inners", None, Part.CAVITY),
        ("rock_inners.mat", "inners", Part.BODY, Part.BODY),
    ],
)
def test_the_part_is_told_or_read(
    tmp_path: Path, file: str, variable: str, told: Part | None, part: Part
) -> None:
    path = write(tmp_path / file, cell(circle(30, 30, 9)), name=variable)
    (found,) = OutlineFile(path, target=TARGET, class_name="a", part=told).traced_slices()
    assert found.instances[0].part is part


def test_chosen_slices(tmp_path: Path) -> None:
    path = write(tmp_path / "o.mat", cell(*[circle(30, 30, 9)] * 3))
    target = Target(TARGET.names, SHAPE, (1, 5))
    assert [s.z for s in OutlineFile(path, target=target, class_name="a").traced_slices()] == [1]


def test_outlines_beyond_the_stack_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "o.mat", cell(*[circle(30, 30, 9)] * 9))
    with pytest.raises(FossilError, match=r"o\.mat.*expected slices 0 to 5; found slice 8"):
        OutlineFile(path, target=TARGET, class_name="a")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"a": np.eye(3)},
        {"a": "text"},
        {"a": cell(np.eye(3))},
        {"a": cell(cell("text"))},
        {"a": cell(cell(np.zeros((4, 7))))},
        {"a": cell(cell(NOTHING, NOTHING))},
        {"a": cell(cell(np.ones((2, 3))))},
        {"a": {"b": 1}},
    ],
    ids=str,
)
def test_what_is_no_outline_file_is_refused(tmp_path: Path, content: dict) -> None:
    savemat(tmp_path / "o.mat", content)
    with pytest.raises(FossilError, match=r"o\.mat holds no outlines; expected a cell"):
        read_outlines(tmp_path / "o.mat")


@pytest.mark.parametrize("size", [0, 10, 200, 400])
def test_a_damaged_file_is_refused(tmp_path: Path, size: int) -> None:
    path = write(tmp_path / "o.mat", cell(circle(30, 30, 9)))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(FossilError, match=r"o\.mat"):
        read_outlines(path)


def test_a_damaged_compressed_file_is_refused(tmp_path: Path) -> None:
    content = np.empty((1, 1), dtype=object)
    content[0, 0] = cell(circle(30, 30, 9))
    savemat(tmp_path / "o.mat", {"outer": content}, do_compression=True)
    data = bytearray((tmp_path / "o.mat").read_bytes())
    data[150:170] = bytes(20)
    (tmp_path / "o.mat").write_bytes(data)
    with pytest.raises(FossilError, match=r"o\.mat cannot be read; expected a MATLAB file"):
        read_outlines(tmp_path / "o.mat")


def test_a_text_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "o.mat").write_text("MATLAB 5.0 MAT-file, or so it says" * 20)
    with pytest.raises(FossilError, match=r"o\.mat cannot be read; expected a MATLAB file"):
        read_outlines(tmp_path / "o.mat")


@pytest.mark.real_data
@pytest.mark.parametrize(("which", "least"), [("outer", 0.95), ("inner", 0.90)])
def test_the_archaeocyaths_of_rlg136a(shared_data: Path, which: str, least: float) -> None:
    folder = shared_data / "rlg136a"
    truth = tifffile.imread(folder / f"rlg136a_{which}_labels_zyx.tif")
    target = Target(tuple(map(str, range(132))), truth.shape[1:])
    path = folder / f"rlg136a_all_{which}s.mat"
    file = OutlineFile(path, target=target, class_name="archaeocyathid")
    found = [i for s in file.traced_slices() for i in s.instances]
    shared = both = 0
    for item in found:
        ours, theirs = item.mask.to_array(), truth[item.slice] == item.specimen
        shared, both = shared + (ours & theirs).sum(), both + (ours | theirs).sum()
    assert len(found) == {"outer": 201, "inner": 199}[which]
    assert shared / both > least
    outlines = read_outlines(path)
    areas = sum(shoelace(c) for one in outlines.contours for c in one.values())
    assert sum(i.mask.area for i in found) == pytest.approx(areas, rel=0.001)
    assert which == "inner" or outlines.shape == truth.shape
