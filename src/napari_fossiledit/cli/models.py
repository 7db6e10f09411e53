"""The commands that list models, bring them in and take them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_fossiledit.cli.adapter import Summarised, fossil_command
from napari_fossiledit.cli.arguments import ProjectArgument
from napari_fossiledit.params.model_files import ExportModelParams, ImportModelParams
from napari_fossiledit.progress import Job

app = typer.Typer(
    no_args_is_help=True, help="List models, import those of detectron2, export to it."
)


@app.command("list")
@fossil_command()
def list_models(project: ProjectArgument, job: Job) -> Summarised:
    """List the models and edits of a project and the models that come along."""
    from napari_fossiledit.workflows.segment.model_files import list_models as workflow

    return workflow(project, job=job)


@app.command("import")
@fossil_command(ImportModelParams)
def import_model(
    project: ProjectArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint, .pth or .pkl.")],
    params: ImportModelParams,
    job: Job,
) -> Summarised:
    """Make a checkpoint of detectron2 a model of the project; detectron2 is not needed."""
    from napari_fossiledit.workflows.segment.model_files import import_model as workflow

    return workflow(project, file, params, job=job)


@app.command("export")
@fossil_command(ExportModelParams)
def export_model(
    project: ProjectArgument,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model or edit.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder for the checkpoint.")],
    params: ExportModelParams,
    job: Job,
) -> Summarised:
    """Write a model or an edit as a checkpoint of detectron2 with its configuration."""
    from napari_fossiledit.workflows.segment.model_files import export_model as workflow

    return workflow(project, model, out, params, job=job)
