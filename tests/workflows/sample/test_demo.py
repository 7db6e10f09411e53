"""The demonstration goes on where a killed one stopped."""

from napari_fossiledit.progress import QUIET
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.sample import demo


def test_a_project_without_its_truth_is_completed(tiny_reef, tmp_path):
    project = tmp_path / "reef.fossil"
    project.mkdir()
    demo._project(project, tiny_reef, QUIET)
    with Project.open(project) as made:
        assert len(made.ledger.traced()) == 5
        made.ledger.forget("annotations")
        for run in made.ledger.runs():
            made.ledger.end_run(run.id, "running", {})
    for _ in range(2):
        demo._project(project, tiny_reef, QUIET)
    with Project.open(project) as made:
        assert made.ledger.counts("annotations").keys() == set(range(5))
        assert [run.kind for run in made.ledger.runs()] == ["import", "import"]
