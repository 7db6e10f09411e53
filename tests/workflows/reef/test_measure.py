"""Measure a project: tables, record, plots, orientation."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.tables import write_table
from napari_fossiledit.masks import Instance, Mask, Origin
from napari_fossiledit.params.reconstruct import LinkParams, MeasureParams, OrientParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.reef import link, measure, orient
from napari_fossiledit.workflows.reef.measure import COLUMNS
from tests.full_disk import full_disk

SHAPE = (14, 60, 80)


MODEL = "model:m:0123456789ab"


def grown(mask):
    """The mask, and a pixel more to the left."""
    return mask | Mask.from_array(np.roll(mask.to_array(), -1, axis=1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A Y of two branches, and a box that touches nothing of it, in a linked project."""
    path = tmp_path_factory.mktemp("measured") / "reef.fossil"
    params = NewParams(pixel_size=10, slice_spacing=30)
    y, x = np.indices(SHAPE[1:])
    with Project.create(path, BlankStack.of_shape(path / "none", SHAPE), params) as project:
        for z in range(SHAPE[0]):
            away = max(0, z - 4) * 2
            one, other = ((y - 30) ** 2 + (x - 30 - s * away) ** 2 < 64 for s in (-1, 1))
            bodies = [one | other, (y > 20) & (y < 40) & (x > 65)] if 0 < z < 13 else []
            found = [
                Instance(z, "archaeocyathid", Mask.from_array(body), id=-1 - n)
                for n, body in enumerate(bodies)
            ]
            project.ledger.store(ANNOTATIONS, z, found)
            # A person drew the box.
            origins = Origin.MODEL, Origin.HUMAN
            drawn = zip(found, origins, strict=False)
            larger = [replace(i, mask=grown(i.mask), origin=origin) for i, origin in drawn]
            project.ledger.store(MODEL, z, larger)
            project.ledger.set_traced(z, None)
    link.run(path, LinkParams(source=ANNOTATIONS))
    return path


def test_measuring_writes_tables_a_record_and_plots(made, tmp_path):
    params = MeasureParams(plots=tmp_path / "plots", cube_um=150, cubes=7)
    result = measure.run(made, tmp_path / "reef.csv", params)
    names = {file.name for file in result.files}
    tables = {
        f"reef{part}.csv" for part in ("", "_branches", "_branch_points", "_planes", "_classes")
    }
    plots = {
        f"{p}.{k}" for p in ("branching", "directions", "reef", "through_z") for k in ("png", "svg")
    }
    assert names == tables | plots | {"reef_record.json"}
    assert all(file.stat().st_size for file in result.files)
    branching, box = result.rows
    # What it stands on is shorter than it is thick.
    assert (branching.branch_points, branching.branches, box.branch_points) == (1, 2, 0)
    assert branching.branch_angle_deg == pytest.approx(2 * np.degrees(np.arctan(2 / 3)), abs=5)
    assert box.cut_by == "right"
    assert box.touching_um2 == 0
    head = (tmp_path / "reef.csv").read_text().splitlines()[0]
    assert {"volume_low_um3", "azimuth_deg", "footprint_um2"} < set(head.split(","))
    record = json.loads((tmp_path / "reef_record.json").read_text())
    assert record["parameters"]["cube_um"] == 150
    assert record["reef"]["cubes"] == 7
    assumed = " ".join(record["assumed"])
    for said in ("Directions are those of the stack", "Masks were taken to be right", "7 cubes"):
        assert said in assumed


def test_the_orientation_is_entered_once_and_turns_directions(made, tmp_path):
    before = measure.run(made, tmp_path / "a.json").rows[1]
    angles = OrientParams(block_strike=0, block_dip=90, bedding_strike=0, bedding_dip=0)
    told = orient.run(made, angles)
    assert told.photograph_top == (0, 0)
    result = measure.run(made, tmp_path / "b.json")
    assert before.inclination_deg > 80
    assert result.rows[1].inclination_deg < 10
    assert "block dip 90" in " ".join(result.assumed)


def test_predicted_areas_that_are_too_large_move_the_interval(made, tmp_path):
    path = tmp_path / "copy.fossil"
    shutil.copytree(made, path)
    link.run(path, LinkParams(source=MODEL))
    before = measure.run(path, tmp_path / "a.json")
    with Project.open(path) as project:
        project.update(pinned_slices=(3, 4))
    after = measure.run(path, tmp_path / "a.json")
    assert "Masks were taken to be right" in " ".join(before.assumed)
    # The disk has 193 pixels and grows by 15, the box 266 and grows by 19.
    assert "Predicted areas are +7" in " ".join(after.assumed)
    (one, other) = (result.rows[0] for result in (before, after))
    assert one.volume_um3 == other.volume_um3
    middle = (other.volume_low_um3 + other.volume_high_um3) / 2
    assert middle / one.volume_um3 == pytest.approx(1 / 1.074, abs=0.005)
    # The model did not draw the box.
    (one, other) = (result.rows[1] for result in (before, after))
    assert (one.volume_low_um3, one.volume_high_um3) == pytest.approx(
        (other.volume_low_um3, other.volume_high_um3)
    )


def test_parquet_has_types_and_units_also_where_nothing_is_known(made, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    result = measure.run(made, tmp_path / "reef.parquet")
    read = {part: parquet.read_table(tmp_path / f"reef_{part}.parquet") for part in COLUMNS}
    written = parquet.read_table(tmp_path / "reef.parquet")
    assert written.to_pylist() == [row.record() for row in result.rows]
    assert "null" not in {str(kind) for kind in written.schema.types}
    # The box has no cavity and no branch angle: missing, not NaN.
    assert written["branch_angle_deg"].to_pylist()[1] is None
    assert str(written.schema.field("wall_thickness_mean_um").type) == "double"
    assert written["wall_thickness_mean_um"].null_count == 2
    names = {str: "string", int: "int64", float: "double"}
    for part, columns in COLUMNS.items():
        assert [(f.name, str(f.type)) for f in read[part].schema] == [
            (name, names[kind]) for name, kind in columns.items()
        ]
    assert read["branch_points"].num_rows == 1
    write_table([], tmp_path / "none.parquet", COLUMNS["branch_points"])
    assert parquet.read_schema(tmp_path / "none.parquet") == read["branch_points"].schema


def test_parquet_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(FossilError, match="pyarrow is not installed") as caught:
        measure.run(tmp_path / "none.fossil", tmp_path / "t.parquet")
    assert "[parquet]" in caught.value.advice


def test_a_full_disk_leaves_the_measurement_of_before_whole(made, tmp_path, monkeypatch):
    measure.run(made, tmp_path / "reef.csv")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    every = sum(map(len, before.values()))
    params = MeasureParams(close_cracks=30, cube_um=150)
    # Full in the first table, in the midst of them, and in the record that is the last.
    for after in (100, every // 2, every - 100):
        with monkeypatch.context() as patched:
            full_disk(patched, after)
            with pytest.raises(FossilError, match="The disk is full"):
                measure.run(made, tmp_path / "reef.csv", params)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    (tmp_path / "reef_record.json").unlink()
    (tmp_path / "reef_record.json").mkdir()
    with pytest.raises(FossilError, match=r"reef_record\.json cannot be written"):
        measure.run(made, tmp_path / "reef.csv", params)
    assert (tmp_path / "reef.csv").read_bytes() == before["reef.csv"]
