"""The commands that find out where a model is wrong, rewrite it, and keep or roll back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_fossiledit.cli.adapter import Summarised, fossil_command
from napari_fossiledit.cli.arguments import CLASS, ProjectArgument
from napari_fossiledit.params.editing import EditParams
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.params.probe import ProbeParams
from napari_fossiledit.params.repair import RepairParams
from napari_fossiledit.progress import Job

app = typer.Typer()
edits_app = typer.Typer(
    no_args_is_help=True, help="List edits of models, keep them, roll them back, combine them."
)
app.add_typer(edits_app, name="edits")

EditArgument = Annotated[str, typer.Argument(metavar="EDIT", help="Name of an edit.")]
SliceArgument = Annotated[int, typer.Argument(metavar="SLICE", help="Slice, counted from 0.")]
NewName = Annotated[str, typer.Option("--name", help="Name of the new edit.")]


@app.command("perturb")
@fossil_command(PerturbParams, names=CLASS)
def perturb(
    project: ProjectArgument,
    z: SliceArgument,
    params: PerturbParams,
    job: Job,
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write.")] = None,
) -> Summarised:
    """Fill parts of a slice with mud, texture or noise, as the model would see it."""
    from napari_fossiledit.workflows.shared import perturbed_slices as workflow

    return workflow.run(project, z, params, out, job=job)


@app.command("mud")
@fossil_command()
def pick_mud(
    project: ProjectArgument,
    z: SliceArgument,
    x: Annotated[float, typer.Argument(metavar="X", help="Column of the pixel.")],
    y: Annotated[float, typer.Argument(metavar="Y", help="Row of the pixel.")],
    job: Job,
) -> Summarised:
    """Take the colour at a pixel for the mud colour of the project."""
    from napari_fossiledit.workflows.shared.perturbed_slices import pick_mud as workflow

    return workflow(project, z, x, y, job=job)


@app.command("probe")
@fossil_command(ProbeParams, skip=frozenset({"preset"}), names=CLASS)
def probe(project: ProjectArgument, params: ProbeParams, job: Job) -> Summarised:
    """Find out what misleads a model: perturb slices and compare what it then sees."""
    from napari_fossiledit.workflows.probe import run as workflow

    return workflow.run(project, params, job=job)


@app.command("edit")
@fossil_command(EditParams, names=CLASS)
def edit_model(project: ProjectArgument, params: EditParams, job: Job) -> Summarised:
    """Rewrite a model with perturbed slices and judge it; the model itself is not touched."""
    from napari_fossiledit.workflows.edit import run as workflow

    return workflow.run(project, params, job=job)


@app.command("repair")
@fossil_command(RepairParams)
def repair(project: ProjectArgument, params: RepairParams, job: Job) -> Summarised:
    """Find out what misleads a model at one wrong place, and propose an edit that mends it."""
    from napari_fossiledit.workflows.repair import run as workflow

    return workflow.run(project, params, job=job)


@edits_app.command("list")
@fossil_command()
def list_edits(project: ProjectArgument, job: Job) -> Summarised:
    """List models and edits, each below what it was made from."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.listing(project, job=job)


@edits_app.command("show")
@fossil_command()
def show_edit(project: ProjectArgument, edit: EditArgument, job: Job) -> Summarised:
    """Tell all that is known of an edit."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.show(project, edit, job=job)


@edits_app.command("apply")
@fossil_command()
def apply_edit(
    project: ProjectArgument,
    edit: EditArgument,
    job: Job,
    strength: Annotated[
        float | None, typer.Option("--strength", help="Share of the edit from now on.")
    ] = None,
    score: Annotated[
        float | None, typer.Option("--score", help="Score threshold from now on.")
    ] = None,
) -> Summarised:
    """Keep an edit: the model with it is in use from now on."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.apply(project, edit, strength, score, job=job)


@edits_app.command("rollback")
@fossil_command()
def roll_back(project: ProjectArgument, edit: EditArgument, job: Job) -> Summarised:
    """Take an edit back: its parent is in use again, with the very same predictions."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.rollback(project, edit, job=job)


@edits_app.command("export")
@fossil_command()
def export_edit(
    project: ProjectArgument,
    edit: EditArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the model.")],
    job: Job,
) -> Summarised:
    """Write a model with its edits as a model folder of its own."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.export(project, edit, out, job=job)


@edits_app.command("compose")
@fossil_command()
def compose_edits(
    project: ProjectArgument,
    edits: Annotated[list[str], typer.Argument(metavar="EDIT...", help="Edits to add up.")],
    name: NewName,
    job: Job,
) -> Summarised:
    """Add up edits, each at its strength, to a new one; one edit makes a copy."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.compose(project, edits, name, job=job)


@edits_app.command("invert")
@fossil_command()
def invert_edit(
    project: ProjectArgument, edit: EditArgument, name: NewName, job: Job
) -> Summarised:
    """Make an edit on top of an edit that takes it away, up to rounding."""
    from napari_fossiledit.workflows.edit import decide as workflow

    return workflow.invert(project, edit, name, job=job)
