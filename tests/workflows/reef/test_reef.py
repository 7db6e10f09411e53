"""Link, mesh, measure and evaluate in a project, without a network."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.written_files import LIST
from napari_fossiledit.geometry import ZDirection
from napari_fossiledit.masks import Instance, Mask, Origin, Part
from napari_fossiledit.params.reconstruct import LinkParams, MeshFormat, MeshParams, PictureParams
from napari_fossiledit.params.segment import EvaluateParams, PredictParams
from napari_fossiledit.params.stack import NewParams, RepairProjectParams
from napari_fossiledit.placement import Alignment, Placement
from napari_fossiledit.project import ANNOTATIONS, Ledger, Project
from napari_fossiledit.stacks.blank import BlankStack
from napari_fossiledit.workflows.reef import link, measure, mesh, pictures
from napari_fossiledit.workflows.segment import evaluate
from napari_fossiledit.workflows.segment import predict as predict_workflow
from napari_fossiledit.workflows.shared.sources import choose, find_source
from napari_fossiledit.workflows.stack import repair_project

SHAPE = (6, 60, 80)
CLASS = "archaeocyathid"
MODEL = "model:m:0123456789ab"


def box(z, y0, x0, y1, x1, **fields):
    array = np.zeros(SHAPE[1:], dtype=bool)
    array[y0:y1, x0:x1] = True
    return Instance(z, fields.pop("class_name", CLASS), Mask.from_array(array), **fields)


def fossils(z, **fields):
    """Two bodies, the first with a cavity, and something of another class."""
    return [
        box(z, 5, 5, 35, 35, id=-1, **fields),
        box(z, 12, 12, 28, 28, id=-2, parent=-1, part=Part.CAVITY, **fields),
        box(z, 10, 45, 40, 70, id=-3, **fields),
        box(z, 45, 5, 55, 60, id=-4, class_name="calcimicrobe", **fields),
    ]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "reef.fossil"
    params = NewParams(pixel_size=10, slice_spacing=30)
    with Project.create(path, BlankStack.of_shape(tmp_path / "none.mat", SHAPE), params) as project:
        for z in range(1, 5):
            project.ledger.store(ANNOTATIONS, z, fossils(z))
            project.ledger.set_traced(z, None)
    return path


def specimens(folder, source=ANNOTATIONS):
    with Project.open(folder) as project:
        return {i.id: i.specimen for z in range(6) for i in project.instances(source, z)}


def test_linking_writes_specimens_and_nothing_else(folder):
    with Project.open(folder) as project:
        before = project.ledger.instances(ANNOTATIONS)
    result = link.run(folder, LinkParams())
    with Project.open(folder) as project:
        after = project.ledger.instances(ANNOTATIONS)
        run = project.ledger.runs()[-1]
    assert (result.specimens, result.instances, result.unlinked) == (2, 12, 0)
    assert [replace(i, specimen=None) for i in after] == before
    assert {i.specimen for i in after if i.class_name != CLASS} == {None}
    cavities = [i for i in after if i.part is Part.CAVITY]
    bodies = {i.id: i.specimen for i in after}
    assert [c.specimen for c in cavities] == [bodies[c.parent] for c in cavities]
    assert (run.kind, run.status, run.summary["specimens"]) == ("link", "done", 2)
    json.dumps(result.summary(), allow_nan=False)


def test_identities_of_a_file_are_kept_unless_relinked(folder):
    with Project.open(folder) as project:
        for z in range(1, 5):
            known = [replace(i, specimen=40 + (z > 2)) for i in fossils(z)[:1]]
            project.ledger.store(ANNOTATIONS, z, known)
        project.ledger.set_identified(ANNOTATIONS, True)
    kept = link.run(folder, LinkParams())
    assert kept.kept
    assert kept.specimens == 2
    assert set(specimens(folder).values()) == {40, 41}
    relinked = link.run(folder, LinkParams(relink=True))
    assert (relinked.kept, relinked.specimens, relinked.merged) == (False, 1, {1: (40, 41)})
    assert set(specimens(folder).values()) == {1}


def test_linking_one_class_leaves_the_identities_of_another_alone(folder):
    with Project.open(folder) as project:
        for z in range(1, 5):
            told = {CLASS: 40 + (z > 2), "calcimicrobe": None}
            known = [replace(i, specimen=told[i.class_name]) for i in fossils(z)]
            project.ledger.store(ANNOTATIONS, z, known)
        project.ledger.set_identified(ANNOTATIONS, True)
    microbes = LinkParams(class_name="calcimicrobe")
    assert [link.run(folder, microbes).kept for _ in range(2)] == [False, False]
    kept = link.run(folder, LinkParams())
    assert kept.kept
    assert set(specimens(folder).values()) == {1, 40, 41}
    with Project.open(folder) as project:
        told = project.ledger.instances(ANNOTATIONS, class_name="calcimicrobe")
        project.ledger.set_specimens(ANNOTATIONS, {i.id: i.specimen for i in told})
        project.ledger.set_identified(ANNOTATIONS, True)
    assert link.run(folder, microbes).kept


def test_all_classes_are_linked_each_by_itself_as_one_action(folder, tmp_path):
    with Project.open(folder) as project:
        project.ledger.edit(1, put=[box(1, 0, 0, 60, 80, class_name="rock_face")])
    result = link.run(folder, LinkParams(class_name="all"))
    assert (result.class_name, result.specimens, result.instances) == ("all", 3, 16)
    listed = result.summary()["classes"]
    assert [(c["class_name"], c["specimens"]) for c in listed] == [(CLASS, 2), ("calcimicrobe", 1)]
    rows = measure.run(folder, tmp_path / "all.csv").rows
    assert [r.specimen for r in rows] == [1, 2, 1]
    with Project.open(folder) as project:
        assert project.ledger.undo().what == f"link {CLASS}, calcimicrobe"
    assert set(specimens(folder).values()) == {None}


def test_branches_are_cut_by_choice(folder):
    with Project.open(folder) as project:
        for z in range(1, 5):
            halves = [box(z, 5, x, 35, x + 14, id=-x) for x in (5, 21)]
            project.ledger.store(ANNOTATIONS, z, fossils(z)[:1] if z < 3 else halves)
    for branches, count in (("graph", 1), ("cut", 2)):
        result = link.run(folder, LinkParams(branches=branches))
        assert (result.specimens, [e.kind for e in result.events]) == (count, ["split"])


def test_predictions_below_the_threshold_belong_to_no_specimen(folder):
    with Project.open(folder) as project:
        for z in range(1, 5):
            weak, strong = box(z, 40, 40, 50, 50, score=0.4), box(z, 5, 5, 35, 35, score=0.9)
            project.ledger.store(MODEL, z, [weak, strong])
    assert link.run(folder, LinkParams(source="m", score=0.3)).specimens == 2
    assert link.run(folder, LinkParams(source="m")).specimens == 1
    assert sorted(map(str, specimens(folder, MODEL).values())) == ["1"] * 4 + ["None"] * 4


def test_a_damaged_slice_is_named_and_the_others_are_linked(folder, tmp_path):
    link.run(folder, LinkParams())
    with Project.open(folder) as project:
        (id_, *_) = [i.id for i in project.ledger.instances(ANNOTATIONS, slices=[2])]
        with project.ledger.transaction() as db:
            db.execute("DELETE FROM actions")
            db.execute("UPDATE instances SET counts = x'00' WHERE id = ?", (id_,))
    for outcome in (link.run(folder, LinkParams()), measure.run(folder, tmp_path / "a.csv")):
        assert f"damaged instance, number {id_} of annotations, in slice 2" in outcome.warnings[0]
        assert "repair-project" in outcome.warnings[0]
        assert "(2)" in outcome.warnings[1]
    assert [r.volume_um3 for r in measure.run(folder, tmp_path / "a.csv").rows] == [None, None]
    found = repair_project.run(folder, RepairProjectParams()).summary()
    assert (found["damaged"], found["left"], found["rows"][0]["slice"]) == (1, 1, 2)
    assert "--clear" in found["notes"][0]
    assert repair_project.run(folder, RepairProjectParams(clear=True)).summary()["cleared"] == 1
    assert link.run(folder, LinkParams()).warnings == ()


def sparse(folder, slices, **fields):
    """Keep one body in some slices of the user's set, and nothing elsewhere."""
    with Project.open(folder) as project:
        project.ledger.forget(ANNOTATIONS)
        for z in range(SHAPE[0]):
            project.ledger.unset_traced(z)
        project.ledger.forget(ANNOTATIONS)
        for z in slices:
            project.ledger.store(ANNOTATIONS, z, [box(z, 10, 10, 30, 40, **fields)])


def test_predictions_stand_in_where_nobody_has_annotated(folder):
    sparse(folder, (0, 3, 5), specimen=7)
    with Project.open(folder) as project:
        project.ledger.set_identified(ANNOTATIONS, True)
        for z in range(SHAPE[0]):
            found = [box(z, 12, 12, 30, 40, score=0.9), box(z, 40, 60, 50, 70, score=0.8)]
            project.ledger.store(MODEL, z, found)
    outcome = link.run(folder, LinkParams())
    assert (outcome.source, outcome.parts) == ("best-known", {ANNOTATIONS: "0,3,5", MODEL: "1-2,4"})
    assert (outcome.kept, outcome.specimens) == (True, 2)
    assert outcome.warnings == (
        "Slices 0,3,5 hold annotations and are not marked as traced: predictions are not looked at"
        " there.",
    )
    assert set(specimens(folder).values()) == {7}
    with Project.open(folder) as project:
        told = {(i.slice, i.specimen) for i in project.ledger.instances(MODEL)}
        shape = {i.slice: i.mask.area for i in project.ledger.instances(ANNOTATIONS)}
    # The other one is predicted in the slices between only: where it was annotated it is absent.
    assert told == {(1, 7), (1, 8), (2, 7), (2, 8), (4, 7), (4, 8), *((z, None) for z in (0, 3, 5))}
    seven, eight = mesh.in_memory(folder, MeshParams()).rows
    assert (seven.specimen, seven.slices, eight.first_slice, eight.last_slice) == (7, 6, 1, 4)
    assert seven.volume_um3 == (3 * shape[0] + 3 * 18 * 28) * 100 * 30


def test_annotating_after_linking_is_told(folder):
    sparse(folder, (0, 1))
    predict(folder, [0, 1, 2, 3])
    link.run(folder, LinkParams())
    with Project.open(folder) as project:
        project.ledger.edit(2, put=[box(2, 10, 10, 30, 40)])
    model = mesh.in_memory(folder, MeshParams())
    assert [r.last_slice for r in model.rows] == [3, 3]
    assert model.reviewed == ("in part", "not yet")
    assert "Slices 2 were annotated or predicted since linking" in model.warnings[0]
    link.run(folder, LinkParams())
    assert mesh.in_memory(folder, MeshParams()).warnings == ()


def test_numbers_of_two_linkings_are_not_mixed(folder, tmp_path):
    sparse(folder, (0, 1))
    predict(folder, [0, 1, 2, 3])
    for source in ("m", ANNOTATIONS):
        link.run(folder, LinkParams(source=source))
    with pytest.raises(FossilError, match=r"no specimens in best-known.*with best-known as"):
        mesh.run(folder, tmp_path, MeshParams(source="best-known"))


def test_what_was_drawn_and_removed_hides_no_predictions(folder):
    sparse(folder, ())
    predict(folder, range(SHAPE[0]))
    with Project.open(folder) as project:
        drawn = project.ledger.edit(2, put=[box(2, 10, 10, 30, 40)])
        assert choose(project, "best-known").parts == {ANNOTATIONS: (2,), MODEL: (0, 1, 3, 4, 5)}
        project.ledger.edit(2, remove=drawn)
        assert choose(project, "best-known").parts == {MODEL: (0, 1, 2, 3, 4, 5)}
        # Now somebody says that nothing is there.
        project.ledger.set_traced(2, None)
        assert choose(project, "best-known").parts == {ANNOTATIONS: (2,), MODEL: (0, 1, 3, 4, 5)}


def test_undoing_a_linking_of_several_sources_mixes_no_numbers(folder):
    sparse(folder, (0, 1))
    predict(folder, range(2, SHAPE[0]))
    link.run(folder, LinkParams())
    before = [r.volume_um3 for r in mesh.in_memory(folder, MeshParams()).rows]
    with Project.open(folder) as project:
        assert project.ledger.undo().what == f"link {CLASS}"
    with pytest.raises(FossilError, match=r"no specimens in best-known.*Link them first"):
        mesh.in_memory(folder, MeshParams())
    with Project.open(folder) as project:
        project.ledger.redo()
    again = mesh.in_memory(folder, MeshParams())
    assert ([r.volume_um3 for r in again.rows], again.warnings) == (before, ())
    # A linking that finds the same is no other one.
    link.run(folder, LinkParams())
    with Project.open(folder) as project:
        assert [a.what for a in project.ledger.history()].count(f"link {CLASS}") == 1


def test_a_source_that_was_linked_in_part_with_another_is_linked_again(folder):
    sparse(folder, ())
    predict(folder, range(SHAPE[0]))
    link.run(folder, LinkParams(source="m"))
    assert mesh.in_memory(folder, MeshParams(source="m")).warnings == ()
    with Project.open(folder) as project:
        project.ledger.store(ANNOTATIONS, 0, [box(0, 10, 10, 30, 40)])
    link.run(folder, LinkParams())
    with pytest.raises(FossilError, match="no specimens in model:m"):
        mesh.in_memory(folder, MeshParams(source="m"))
    link.run(folder, LinkParams(source="m"))
    assert len(mesh.in_memory(folder, MeshParams(source="m")).rows) == 2


def test_what_is_drawn_after_linking_is_told(folder):
    link.run(folder, LinkParams())
    assert mesh.in_memory(folder, MeshParams()).warnings == ()
    with Project.open(folder) as project:
        project.ledger.edit(2, put=[box(2, 42, 62, 50, 70)])
    (warning,) = mesh.in_memory(folder, MeshParams()).warnings
    assert warning == (
        f"Instances of {CLASS} were drawn, removed or predicted since linking: link again to take"
        " that in."
    )
    with Project.open(folder) as project:
        project.ledger.undo()
    assert mesh.in_memory(folder, MeshParams()).warnings == ()


def test_slices_that_were_moved_after_linking_are_told(folder):
    link.run(folder, LinkParams())
    with Project.open(folder) as project:
        project.ledger.set_alignment(Alignment.of({2: Placement(3, 1), 4: Placement()}))
    (warning,) = mesh.in_memory(folder, MeshParams()).warnings
    assert warning == "Slices 2-3 were moved since linking: link again to take that in."
    link.run(folder, LinkParams())
    assert mesh.in_memory(folder, MeshParams()).warnings == ()
    with Project.open(folder) as project:
        project.ledger.undo()
        project.ledger.undo()
    # Neither the linking before nor the photographs are what they were when it was undone.
    assert mesh.in_memory(folder, MeshParams()).warnings == ()


def test_a_killed_linking_leaves_the_one_before(folder, monkeypatch):
    link.run(folder, LinkParams())
    before = specimens(folder)
    monkeypatch.setattr(Ledger, "set_linked", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        link.run(folder, LinkParams(min_slices=6))
    assert specimens(folder) == before


def test_no_volume_is_invented_between_slices_that_nobody_looked_at(folder, tmp_path):
    sparse(folder, (0, 3, 5), specimen=7)
    with Project.open(folder) as project:
        project.ledger.set_identified(ANNOTATIONS, True)
    outcome = link.run(folder, LinkParams())
    assert (outcome.source, outcome.kept, outcome.specimens) == (ANNOTATIONS, True, 1)
    assert (
        "3 of the 6 slices from 0 to 5 are neither annotated nor predicted (1-2,4)"
        in (outcome.warnings[0])
    )
    measured = measure.run(folder, tmp_path / "reef.csv")
    (row,) = measured.rows
    assert (row.specimen, row.slices, row.volume_um3, row.surface_um2) == (7, 3, None, None)
    assert measured.warnings == (
        "1 specimens (archaeocyathid 7) have no volume and no mesh: 3 slices in their midst (1-2,4)"
        " are neither annotated nor predicted. Predict them and link again, or interpolate over"
        " them (bridge).",
    )
    with (tmp_path / "reef.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["volume_um3"] == ""
    meshes = mesh.run(folder, tmp_path / "meshes", MeshParams())
    assert (meshes.files, meshes.scene, meshes.warnings) == ((), None, measured.warnings)
    assert list((tmp_path / "meshes").iterdir()) == []
    bridged = mesh.run(folder, tmp_path / "bridged", MeshParams(bridge=2))
    assert bridged.rows[0].volume_um3 == pytest.approx(6 * 600 * 100 * 30, rel=0.05)
    assert "7) were interpolated over 3 slices" in bridged.warnings[-1]
    assert bridged.sound == (True,)
    with Project.open(folder) as project:
        # Now somebody has looked, and it is not there.
        for z in (1, 2, 4):
            project.ledger.set_traced(z, None)
    assert measure.run(folder, tmp_path / "reef.csv").rows[0].volume_um3 == 600 * 3 * 100 * 30


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (LinkParams(class_name="coral"), r"nothing to link.*coral.*archaeocyathid, calcimicrobe"),
        (LinkParams(source="nobody"), r"no instances of 'nobody'"),
    ],
)
def test_nothing_to_link_is_told_and_the_run_is_noted_as_failed(folder, params, message):
    with pytest.raises(FossilError, match="no class 'coral'; expected one of archaeocyathid, calc"):
        link.run(folder, LinkParams(class_name="coral"))
    with Project.open(folder) as project:
        project.update(classes=(CLASS, "coral"))
    with pytest.raises(FossilError, match=message):
        link.run(folder, params)
    with Project.open(folder) as project:
        assert project.ledger.runs()[-1].status == "failed"


@pytest.mark.parametrize("file_format", MeshFormat)
def test_meshes_are_written_closed_with_the_volume_of_the_sections(folder, tmp_path, file_format):
    link.run(folder, LinkParams())
    result = mesh.run(folder, tmp_path / "out", MeshParams(format=file_format))
    names = [f"archaeocyathid_00{n}.{file_format}" for n in (1, 2)]
    assert [f.name for f in result.files] == names
    assert result.warnings == ()
    read = [trimesh.load_mesh(f) for f in result.files]
    assert all(m.is_watertight for m in read)
    pixels = np.array([30 * 30 - 16 * 16, 30 * 25])
    volumes = pixels * 4 * 100 * 30 * (1e-18 if file_format is MeshFormat.GLB else 1)
    assert [m.volume for m in read] == pytest.approx(volumes, rel=1e-3)
    assert set(trimesh.load(result.scene).geometry) == {"archaeocyathid_001", "archaeocyathid_002"}
    assert result.summary()["closed"] == 2


def test_processes_write_the_same_meshes(folder, tmp_path):
    link.run(folder, LinkParams())
    here = mesh.run(folder, tmp_path / "here", MeshParams(ends="open"))
    there = mesh.run(folder, tmp_path / "there", MeshParams(ends="open", workers=2))
    assert there.summary() | {"folder": str(here.folder)} == here.summary()
    for file in (*here.files, here.scene):
        assert (there.folder / file.name).read_bytes() == file.read_bytes()


def test_classes_whose_names_differ_in_no_file_name_get_files_each(folder, tmp_path):
    with Project.open(folder) as project:
        project.update(classes=("a b", "A_b"))
        for name, y in (("a b", 2), ("A_b", 40)):
            for z in (1, 2):
                one = [box(z, y, 2, y + 10, 12, class_name=name, specimen=1)]
                project.ledger.store(ANNOTATIONS, z, one, replace=False)
    result = mesh.run(folder, tmp_path / "out", MeshParams())
    assert [file.name for file in result.files] == ["A_b_001.stl", "a_b_001_2.stl"]
    low = [trimesh.load(file).bounds[0, 1] for file in result.files]
    assert low[0] > 300 > low[1]


def test_files_are_mirrored_where_slices_count_out_of_the_rock(folder, tmp_path):
    link.run(folder, LinkParams())
    with Project.open(folder) as project:
        project.update(z_direction=ZDirection.OUT_OF)
    result = mesh.run(folder, tmp_path, MeshParams())
    read = trimesh.load(result.files[0])
    assert read.volume > 0
    assert read.bounds[:, 2] == pytest.approx([-4.5 * 30, -0.5 * 30], abs=5)
    shown = mesh.in_memory(folder, MeshParams()).meshes[0]
    assert shown.vertices[:, 0].min() == pytest.approx(0.5 * 30, abs=5)


def names(folder):
    return {file.name for file in folder.iterdir()} - {LIST}


def give_specimen(folder, number, ids):
    with Project.open(folder) as project:
        project.ledger.set_specimens(ANNOTATIONS, dict.fromkeys(ids, number))


def test_meshes_of_an_earlier_run_do_not_stay_beside_new_ones(folder, tmp_path):
    out = tmp_path / "out"
    link.run(folder, LinkParams())
    mesh.run(folder, out, MeshParams(format="ply"))
    first = mesh.run(folder, out, MeshParams())
    assert first.removed == ()
    assert "of another format: archaeocyathid_001.ply and archaeocyathid_002.ply" in str(first)
    (out / "notes.txt").write_text("mine")
    (out / "archaeocyathid_009.stl").write_text("mine")
    one = [i for i, number in specimens(folder).items() if number == 1]
    give_specimen(folder, 7, one)
    second = mesh.run(folder, out, MeshParams())
    assert second.removed == ("archaeocyathid_001.stl",)
    assert names(out) == {
        *(f"archaeocyathid_00{n}" for n in ("1.ply", "2.ply", "2.stl", "7.stl", "9.stl")),
        *("reef.glb", "notes.txt"),
    }
    (out / "archaeocyathid_007.stl").write_text("edited by somebody")
    give_specimen(folder, 8, one)
    third = mesh.run(folder, out, MeshParams())
    assert "changed since: archaeocyathid_007.stl." in third.warnings[0]
    assert (out / "archaeocyathid_007.stl").read_text() == "edited by somebody"


def test_what_a_broken_off_run_wrote_is_removed_by_the_next(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    link.run(folder, LinkParams())
    write = mesh.write_meshes

    def broken_off(meshes, path, *how):
        return 1 / 0 if path.name == mesh.SCENE else write(meshes, path, *how)

    monkeypatch.setattr(mesh, "write_meshes", broken_off)
    with pytest.raises(ZeroDivisionError):
        mesh.run(folder, out, MeshParams())
    monkeypatch.undo()
    give_specimen(folder, None, [i for i, number in specimens(folder).items() if number == 2])
    assert mesh.run(folder, out, MeshParams()).removed == ("archaeocyathid_002.stl",)
    assert names(out) == {"archaeocyathid_001.stl", "reef.glb"}


@pytest.mark.parametrize("content", ["{", '{"files": 3}', '{"files": {"../reef.stl": {}}}'])
def test_a_damaged_list_of_files_removes_nothing(folder, tmp_path, content):
    out = tmp_path / "out"
    out.mkdir()
    (out / LIST).write_text(content)
    (tmp_path / "reef.stl").write_text("mine")
    link.run(folder, LinkParams())
    result = mesh.run(folder, out, MeshParams())
    assert result.removed == ()
    assert ("cannot be read" in " ".join(result.warnings)) == ("reef.stl" not in content)
    assert (tmp_path / "reef.stl").exists()


def test_meshing_before_linking_tells_what_to_do(folder, tmp_path):
    with pytest.raises(FossilError, match=r"no specimens in annotations.*Link them first"):
        mesh.run(folder, tmp_path / "out", MeshParams())


def test_measuring_writes_a_row_for_each_specimen(folder, tmp_path):
    link.run(folder, LinkParams())
    result = measure.run(folder, tmp_path / "reef.csv")
    with (tmp_path / "reef.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(r["specimen"]) for r in rows] == [1, 2]
    assert float(rows[0]["volume_um3"]) == 900 * 4 * 100 * 30
    assert float(rows[0]["cavity_volume_um3"]) == 256 * 4 * 100 * 30
    assert (rows[0]["first_slice"], rows[0]["last_slice"], rows[0]["mesh_closed"]) == (
        "1",
        "4",
        "True",
    )
    assert result.summary()["specimens"] == 2
    with pytest.raises(FossilError, match=r"reef\.txt"):
        measure.run(folder, tmp_path / "reef.txt")


def predict(folder, slices):
    with Project.open(folder) as project:
        for z in slices:
            found = [box(z, 5, 5, 35, 20, score=0.9), box(z, 45, 5, 55, 60, score=0.8)]
            found = [replace(i, origin=Origin.MODEL) for i in found]
            project.ledger.store(MODEL, z, found)


def test_evaluating_stored_predictions(folder):
    predict(folder, [1, 2])
    result = evaluate.run(folder, EvaluateParams(model=MODEL, slices="1-2"))
    summary = json.loads(json.dumps(result.summary(), allow_nan=False))
    assert summary["protocol"]["matched"] == 2
    assert summary["protocol"]["missed"] == 2
    assert summary["protocol"]["recall"]["mean"] == 0.5
    assert summary["protocol"]["precision"]["mean"] == 1.0
    assert summary["protocol"]["spurious"] == 2
    assert summary["pixels"]["invented_share_on"] == {"calcimicrobe": 1.0}
    assert json.loads(result.report.read_text()) == summary
    with Project.open(folder) as project:
        assert project.ledger.runs()[-1].kind == "evaluate"


@pytest.mark.parametrize(
    ("options", "same"), [({"tiles": True}, True), ({"score_floor": 1}, False)]
)
def test_evaluating_leaves_the_prediction_a_model_stands_for(
    reef_project, blank_model, options, same
):
    """Tiled predictions are judged as they are; others that do not fit the protocol are made."""
    wanted = PredictParams(model=blank_model, slices="0-1", device="cpu", **options)
    asked = predict_workflow.run(reef_project, wanted)
    judged = evaluate.run(reef_project, EvaluateParams(model=blank_model, slices="0", device="cpu"))
    assert (judged.source == asked.source) is same
    with Project.open(reef_project) as project:
        assert find_source(project, blank_model) == asked.source


def test_it_is_told_where_the_latest_predictions_are_not_those_judged(reef_project, blank_model):
    wanted = PredictParams(
        model=blank_model, slices="0-1", device="cpu", neighbour_weight=2, neighbour_score=0
    )
    asked = predict_workflow.run(reef_project, wanted)
    plain = EvaluateParams(model=blank_model, slices="0", device="cpu")
    judged = evaluate.run(reef_project, plain)
    (note,) = judged.notes
    assert note.startswith(f"Judged was {judged.source}: ")
    assert f"to judge those, name {asked.source} as the model" in note
    assert json.loads(judged.report.read_text())["notes"] == [note]
    latest = evaluate.run(reef_project, plain.model_copy(update={"model": asked.source}))
    assert (latest.source, latest.notes) == (asked.source, ())
    predict_workflow.run(reef_project, PredictParams(model=blank_model, slices="0", device="cpu"))
    again = evaluate.run(reef_project, plain)
    assert (again.source, again.notes) == (judged.source, ())
    assert "notes" not in again.summary()


def test_specimens_of_one_class_are_drawn(folder, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "napari_fossiledit.exchange.pages.pictures.draw_specimens",
        lambda surfaces, path, title: drawn.append((len(surfaces), title)),
    )
    for name in (CLASS, "calcimicrobe"):
        link.run(folder, LinkParams(class_name=name))
    with Project.open(folder) as project:
        project.update(classes=(CLASS, "calcimicrobe", "coral"))
    monkeypatch.setattr(pictures, "_draw_slice", lambda *_: tmp_path)
    pictures.run(folder, tmp_path, PictureParams())
    assert drawn == [(2, f"2 specimens of {CLASS}")]
    with pytest.raises(FossilError, match=r"no specimen to draw.*coral"):
        pictures.run(folder, tmp_path, PictureParams(class_name="coral"))


def test_evaluating_a_region_only(folder):
    predict(folder, [1])
    result = evaluate.run(folder, EvaluateParams(model=MODEL, slices="1", region="40:"))
    assert result.figures.left_out == (1, 2)
    assert result.figures.protocol.matched == 0
    assert result.summary()["protocol"]["iou"]["mean"] is None


def test_pinned_slices_judge_by_default(folder):
    predict(folder, [3])
    with Project.open(folder) as project:
        project.update(pinned_slices=(3,))
    assert evaluate.run(folder, EvaluateParams(model=MODEL)).figures.slices == (3,)


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ("", "No slice.*pinned"),
        ("0", "Slice 0 is not traced"),
        ("1-3", r"no prediction of slices 2-3"),
        ("9", "not in the stack"),
    ],
)
def test_bad_choices_of_slices_are_told(folder, slices, message):
    predict(folder, [1])
    with pytest.raises(FossilError, match=message):
        evaluate.run(folder, EvaluateParams(model=MODEL, slices=slices))


def test_an_unknown_model_is_told(folder):
    with pytest.raises(FossilError, match="nobody"):
        evaluate.run(folder, EvaluateParams(model="nobody", slices="1"))
