"""The commands: each hands its arguments to one workflow, imported only when it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_fossiledit import __version__
from napari_fossiledit.cli.adapter import Summarised, fossil_command
from napari_fossiledit.cli.arguments import CLASS, ProjectArgument
from napari_fossiledit.cli.editing import app as editing_app
from napari_fossiledit.cli.models import app as models_app
from napari_fossiledit.params.annotations import ExportParams, FillParams, ImportParams, TraceParams
from napari_fossiledit.params.convert import ConvertParams
from napari_fossiledit.params.files import DemoParams
from napari_fossiledit.params.pictures import PictureParams
from napari_fossiledit.params.reconstruct import LinkParams, MeshParams
from napari_fossiledit.params.reef import ReefParams
from napari_fossiledit.params.segment import EvaluateParams, PredictParams, TrainParams
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.progress import Job

app = typer.Typer(
    name="fossiledit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn photographs of a ground-away rock into a 3D fossil reef.",
)
annotations_app = typer.Typer(no_args_is_help=True, help="Import and export traced slices.")
sample = typer.Typer(no_args_is_help=True, help="Make sample data with exact truth.")
app.add_typer(annotations_app, name="annotations")
app.add_typer(models_app, name="models")
app.add_typer(sample, name="sample")
app.add_typer(editing_app)


@app.command("demo")
@fossil_command(DemoParams)
def demo(
    params: DemoParams,
    job: Job,
    no_gui: Annotated[bool, typer.Option("--no-gui", help="Do not open the window.")] = False,
) -> Summarised:
    """Segment, judge and reconstruct a sample reef, then show it."""
    from napari_fossiledit.workflows.sample import demo as workflow

    result = workflow.run(params, job=job)
    if not no_gui:
        _show(result.project)
    elif _has_display():
        from napari_fossiledit.widgets.start.window import picture

        picture(result.project, result.results["predict"]["source"], result.window_picture)
    return result


@sample.command("reef")
@fossil_command(ReefParams)
def sample_reef(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    params: ReefParams,
    job: Job,
) -> Summarised:
    """Write a procedural serial-section reef with exact 3D truth."""
    from napari_fossiledit.workflows.sample import reef as workflow

    return workflow.run(out, params, job=job)


@app.command("new")
@fossil_command(NewParams)
def new(
    project: ProjectArgument,
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="Photographs to open.")],
    params: NewParams,
    job: Job,
) -> Summarised:
    """Make a project of a folder of photographs, a TIFF or an OME-Zarr."""
    from napari_fossiledit.workflows.stack import new as workflow

    return workflow.run(project, stack, params, job=job)


@app.command("info")
@fossil_command()
def info(project: ProjectArgument, job: Job) -> Summarised:
    """Tell what a project holds."""
    from napari_fossiledit.workflows.stack import info as workflow

    return workflow.run(project, job=job)


@app.command("move")
@fossil_command()
def move(
    project: ProjectArgument,
    stack: Annotated[Path, typer.Argument(metavar="STACK", help="Where the photographs are now.")],
    job: Job,
) -> Summarised:
    """Tell a project where its photographs were moved to."""
    from napari_fossiledit.workflows.stack.new import move_stack as workflow

    return workflow(project, stack, job=job)


@annotations_app.command("import")
@fossil_command(ImportParams, skip=frozenset({"file"}), names=CLASS)
def import_annotations(
    project: ProjectArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="COCO, label images or outlines.")],
    params: ImportParams,
    job: Job,
) -> Summarised:
    """Bring in traced slices: COCO, label images, or clicked outlines."""
    from napari_fossiledit.workflows.annotate.files import import_annotations as workflow

    return workflow(project, params, job=job)


@annotations_app.command("export")
@fossil_command(ExportParams, skip=frozenset({"file"}), names=CLASS)
def export_annotations(
    project: ProjectArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="COCO file to write.")],
    params: ExportParams,
    job: Job,
) -> Summarised:
    """Write traced slices as COCO with holes kept."""
    from napari_fossiledit.workflows.annotate.files import export_annotations as workflow

    return workflow(project, params, job=job)


@annotations_app.command("fill")
@fossil_command(FillParams, names=CLASS)
def fill_labels(project: ProjectArgument, params: FillParams, job: Job) -> Summarised:
    """Copy predictions or traced slices into the labels that are corrected by hand."""
    from napari_fossiledit.workflows.annotate.files import fill_labels as workflow

    return workflow(project, params, job=job)


@annotations_app.command("trace")
@fossil_command(TraceParams, names=CLASS)
def trace_slices(project: ProjectArgument, params: TraceParams, job: Job) -> Summarised:
    """Take corrected labels over as traced slices, complete within the region."""
    from napari_fossiledit.workflows.annotate.files import trace_slice as workflow

    return workflow(project, params, job=job)


@app.command("train")
@fossil_command(TrainParams)
def train(project: ProjectArgument, params: TrainParams, job: Job) -> Summarised:
    """Train a Mask R-CNN on a few traced slices."""
    from napari_fossiledit.workflows.segment import train as workflow

    return workflow.run(project, params, job=job)


@app.command("predict")
@fossil_command(PredictParams)
def predict(project: ProjectArgument, params: PredictParams, job: Job) -> Summarised:
    """Find fossils in slices; finished slices are kept and not predicted again."""
    from napari_fossiledit.workflows.segment import predict as workflow

    return workflow.run(project, params, job=job)


@app.command("evaluate")
@fossil_command(EvaluateParams, names=CLASS)
def evaluate(project: ProjectArgument, params: EvaluateParams, job: Job) -> Summarised:
    """Judge a model on traced slices."""
    from napari_fossiledit.workflows.segment import evaluate as workflow

    return workflow.run(project, params, job=job)


@app.command("link")
@fossil_command(LinkParams, names=CLASS)
def link(project: ProjectArgument, params: LinkParams, job: Job) -> Summarised:
    """Join the instances of neighbouring slices to specimens."""
    from napari_fossiledit.workflows.reef import link as workflow

    return workflow.run(project, params, job=job)


@app.command("mesh")
@fossil_command(MeshParams)
def mesh(
    project: ProjectArgument,
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder for the meshes.")],
    params: MeshParams,
    job: Job,
) -> Summarised:
    """Write a closed surface of every specimen."""
    from napari_fossiledit.workflows.reef import mesh as workflow

    return workflow.run(project, out_dir, params, job=job)


@app.command("measure")
@fossil_command(MeshParams)
def measure(
    project: ProjectArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.csv", help="Table to write, CSV or JSON.")],
    params: MeshParams,
    job: Job,
) -> Summarised:
    """Write volume, surface, place and extent of every specimen."""
    from napari_fossiledit.workflows.reef import measure as workflow

    return workflow.run(project, out, params, job=job)


@app.command("pictures")
@fossil_command(PictureParams, names=CLASS)
def draw_pictures(
    project: ProjectArgument,
    out_dir: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder for the pictures.")],
    params: PictureParams,
    job: Job,
) -> Summarised:
    """Draw predictions beside traced slices, and the specimens in 3D."""
    from napari_fossiledit.workflows.reef import pictures as workflow

    return workflow.run(project, out_dir, params, job=job)


@app.command("convert")
@fossil_command(ConvertParams)
def convert(project: ProjectArgument, params: ConvertParams, job: Job) -> Summarised:
    """Copy the stack into the project as OME-Zarr, for fast stepping and zooming."""
    from napari_fossiledit.workflows.stack import convert as workflow

    return workflow.run(project, params, job=job)


@app.command("open")
@fossil_command()
def open_project(project: ProjectArgument, job: Job) -> Summarised:
    """Open a project in napari."""
    from napari_fossiledit.workflows.stack import info as workflow

    result = workflow.run(project, job=job)
    _show(project)
    return result


@app.callback(invoke_without_command=True)
def version(
    shown: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version where asked."""
    if shown:
        sys.stdout.write(f"napari-fossiledit {__version__}\n")
        raise typer.Exit


def _has_display() -> bool:
    """Whether a window can be drawn: everywhere but on a Linux without a screen."""
    return sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ


def _show(project: Path) -> None:
    """Open the window; Qt is imported here and not before."""
    from napari_fossiledit.widgets.start.window import show

    show(project)
