"""The commands: a table of what each hands to which workflow, imported only when it runs."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from napari_fossiledit import __version__
from napari_fossiledit.cli.adapter import Summarised, fossil_command, usage_errors
from napari_fossiledit.params.agenda import DistanceParams, ExpectParams, MarkParams, SuggestParams
from napari_fossiledit.params.annotations import (
    ExportParams,
    FillParams,
    ImportParams,
    TraceParams,
    UntraceParams,
)
from napari_fossiledit.params.base import Params
from napari_fossiledit.params.editing import EditParams, RepairParams
from napari_fossiledit.params.morphospace import (
    ClassifyParams,
    ClusterParams,
    DisparityParams,
    EmbedParams,
    JudgeParams,
    MapParams,
    MetricParams,
    NameParams,
    OutlierParams,
    PointsParams,
    SectionsParams,
    SimilarParams,
)
from napari_fossiledit.params.perturb import PerturbParams
from napari_fossiledit.params.probe import ProbeParams
from napari_fossiledit.params.reconstruct import (
    LinkParams,
    MeasureParams,
    MeshParams,
    OrientParams,
    PictureParams,
    ReportParams,
)
from napari_fossiledit.params.review import (
    AgreementParams,
    CopyParams,
    CorrectParams,
    DescribeParams,
    HistoryParams,
    InterpolateParams,
    NextParams,
    ProposeParams,
    QueueParams,
    ReshapeParams,
    SameParams,
    SpecimensParams,
    SplitParams,
    SwapParams,
    TeachParams,
    VersionsParams,
)
from napari_fossiledit.params.saliency import AsymmetryParams, SaliencyParams
from napari_fossiledit.params.sample import DemoParams, ReefParams
from napari_fossiledit.params.segment import (
    CalibrateParams,
    CocoWeights,
    EvaluateParams,
    ExportModelParams,
    FetchParams,
    ImportModelParams,
    PredictParams,
    RefineParams,
    TrainParams,
)
from napari_fossiledit.params.spread import SPREAD, SpreadParams
from napari_fossiledit.params.stack import (
    AlignParams,
    ConvertParams,
    CutParams,
    NewParams,
    PlaceParams,
    RepairProjectParams,
)
from napari_fossiledit.progress import Job

#: Option names that differ from the field of the parameter model.
OPTION_NAMES = {"class_name": "class", "z": "slice"}

GROUPS = {
    "annotations": "Import and export traced slices, take predictions over.",
    "review": "Correct masks: doubtful places, tools, undo, versions.",
    "stack": "Take in photographs that were added, say where they lie, lay them over each other.",
    "models": "List models, import those of detectron2, export to it, fetch weights to start from.",
    "sample": "Make sample data with exact truth.",
    "morphospace": "See, sort and name specimens by shape and texture.",
    "edits": "List edits of models, keep them, roll them back, combine them.",
}


def argument(name: str, kind: Any, metavar: str, text: str) -> Parameter:
    """Return a positional argument of a command."""
    annotation = Annotated[kind, typer.Argument(metavar=metavar, help=text)]
    return Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation)


def option(name: str, kind: Any, text: str, default: Any = Parameter.empty) -> Parameter:
    """Return an option that is no field of the parameter model."""
    annotation = Annotated[kind, typer.Option(f"--{name}", help=text)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


PROJECT = argument("project", Path, "PROJECT", "Project folder.")
SLICE = argument("z", int, "SLICE", "Slice, counted from 0.")
SOURCE = argument("source", Path, "SOURCE", "Project, or folder of pictures.")
EDIT = argument("edit", str, "EDIT", "Name of an edit.")
MASK = argument("id", int, "ID", "Id of a mask.")
NEW_NAME = option("name", str, "Name of the new edit.")


@dataclass(frozen=True)
class Command:
    """A command that only calls a workflow.

    Attributes
    ----------
    name
        As it is typed, with its group.
    workflow
        Module below ``napari_fossiledit.workflows`` and function. It is called with the arguments,
        the parameters, and the options, in this order, and with ``job``.
    help
        One sentence.
    arguments, params, options
        What the user gives; each field of the parameter model is an option too.
    skip
        Fields of the parameter model that are no options: given as an argument of the same name,
        or without meaning here.
    """

    name: str
    workflow: str
    help: str
    arguments: tuple[Parameter, ...] = (PROJECT,)
    params: type[Params] | None = None
    options: tuple[Parameter, ...] = ()
    skip: frozenset[str] = frozenset()

    def run(self, values: dict[str, Any], params: Params | None, job: Job) -> Summarised:
        """Import the workflow and call it with the values of a command line."""
        module, function = self.workflow.split(":")
        # Imported when it runs: torch takes seconds to load, and --help must not.
        called = getattr(import_module(f"napari_fossiledit.workflows.{module}"), function)
        given = [values[a.name] for a in self.arguments if a.name not in self.skip]
        given += [] if params is None else [params]
        result: Summarised = called(*given, *(values[o.name] for o in self.options), job=job)
        return result

    def add_to(self, apps: dict[str, typer.Typer]) -> None:
        """Make it a command of the program."""

        def function(*, job: Job, params: Params | None = None, **values: Any) -> Summarised:
            return self.run(values, params, job)

        # What typer shows and parses.
        function.__signature__ = Signature([*self.arguments, *self.options])  # type: ignore[attr-defined]  # functions take any attribute
        function.__doc__ = self.help
        group, _, name = self.name.rpartition(" ")
        decorated = fossil_command(self.params, skip=self.skip, names=OPTION_NAMES)(function)
        apps[group].command(name)(decorated)


COMMANDS = (
    Command(
        "sample reef",
        "sample.reef:run",
        "Write a procedural serial-section reef with exact 3D truth.",
        (argument("out", Path, "OUT", "Folder to write."),),
        ReefParams,
    ),
    Command(
        "new",
        "stack.new:run",
        "Make a project of a folder of photographs, a TIFF or an OME-Zarr.",
        (PROJECT, argument("stack", Path, "STACK", "Photographs to open.")),
        NewParams,
    ),
    Command("info", "stack.info:run", "Show what a project holds."),
    Command(
        "repair-project",
        "stack.repair_project:run",
        "Find damaged rows of a project, and restore what the journal still holds.",
        params=RepairProjectParams,
    ),
    Command(
        "move",
        "stack.new:move_stack",
        "Say where the photographs of a project were moved to.",
        (PROJECT, argument("stack", Path, "STACK", "Where the photographs are now.")),
    ),
    Command(
        "stack append",
        "stack.append:run",
        "Take in photographs that were added behind those of a project.",
        options=(
            option(
                "stack",
                Path | None,
                "Where old and new photographs are; without: where the project has them.",
                None,
            ),
        ),
    ),
    Command(
        "stack positions",
        "stack.new:set_positions",
        "Say how far each slice lies from the first, where the steps are not all the same.",
        (PROJECT, argument("file", Path, "FILE", "CSV: a line a slice, its last column in um.")),
    ),
    Command(
        "stack align",
        "stack.align:run",
        "Find where the stack jumps, and lay the photographs over each other; see 'stack place'.",
        (PROJECT,),
        AlignParams,
    ),
    Command(
        "stack place",
        "stack.align:place",
        "Move a photograph, and all that follow, by hand; 'review undo' takes it back.",
        (PROJECT, SLICE),
        PlaceParams,
        skip=frozenset({"z"}),
    ),
    Command(
        "stack cut",
        "stack.align:cut",
        "Draw a row or column of pixels of each slice, to see how the slices lie.",
        (PROJECT, argument("out", Path, "OUT.png", "Picture to write.")),
        CutParams,
    ),
    Command(
        "stack placements",
        "stack.align:show",
        "Say where the photographs lie.",
        (PROJECT,),
    ),
    Command(
        "annotations import",
        "annotate.files:import_annotations",
        "Import traced slices: COCO, Label Studio, label images, or clicked outlines.",
        (PROJECT, argument("file", Path, "FILE", "COCO, Label Studio, label images or outlines.")),
        ImportParams,
        skip=frozenset({"file"}),
    ),
    Command(
        "annotations export",
        "annotate.files:export_annotations",
        "Write instances as COCO, for Label Studio or as a label volume, and read them back.",
        (
            PROJECT,
            argument("file", Path, "FILE", "File to write: .json, .tif, .zarr, .nrrd, .nii."),
        ),
        ExportParams,
        skip=frozenset({"file"}),
    ),
    Command(
        "annotations fill",
        "annotate.corrections:fill",
        "Copy predictions into the annotations of slices that have none, to be corrected there.",
        params=FillParams,
    ),
    Command(
        "annotations trace",
        "annotate.corrections:trace",
        "Mark slices, or a region of them, as completely annotated.",
        params=TraceParams,
    ),
    Command(
        "annotations untrace",
        "annotate.corrections:untrace",
        "Take the mark from slices that they are completely annotated; instances stay.",
        params=UntraceParams,
    ),
    Command(
        "review queue",
        "review.queue:build",
        "Look through all masks for places that are worth a look, those with most at stake first.",
        params=QueueParams,
    ),
    Command(
        "review next",
        "review.queue:next_place",
        "Show the place to look at next.",
        params=NextParams,
    ),
    Command(
        "review accept",
        "annotate.corrections:correct",
        "Say that masks of a slice are right: predictions are taken over, nothing overwrites them.",
        (PROJECT, argument("accept", str, "IDS", "Ids, e.g. 12,15, or all.")),
        CorrectParams,
        skip=frozenset({"accept", "reject", "merge"}),
    ),
    Command(
        "review reject",
        "annotate.corrections:correct",
        "Delete masks of a slice, and say of predictions that they are wrong.",
        (PROJECT, argument("reject", str, "IDS", "Ids, e.g. 12,15.")),
        CorrectParams,
        skip=frozenset({"accept", "reject", "merge", "reviewed", "mask_cut"}),
    ),
    Command(
        "review merge",
        "annotate.corrections:correct",
        "Make one of several masks of a slice.",
        (PROJECT, argument("merge", str, "IDS", "At least two ids, e.g. 12,15.")),
        CorrectParams,
        skip=frozenset({"accept", "reject", "merge", "reviewed"}),
    ),
    Command(
        "review split",
        "review.shapes:split",
        "Split a mask along a line, or between two clicks.",
        (PROJECT, MASK),
        SplitParams,
        skip=frozenset({"id"}),
    ),
    Command(
        "review reshape",
        "review.shapes:reshape",
        "Fill, smooth, grow or shrink masks of a slice, or remove their islands.",
        (PROJECT, argument("ids", str, "IDS", "Ids, e.g. 12,15.")),
        ReshapeParams,
        skip=frozenset({"ids"}),
    ),
    Command(
        "review propose",
        "review.shapes:propose",
        "Propose the outline of the fossil in a box or below a click.",
        params=ProposeParams,
    ),
    Command(
        "review describe",
        "review.shapes:describe",
        "Write class and texture of masks of a slice, and whether they are unsure.",
        (PROJECT, argument("ids", str, "IDS", "Ids, e.g. 12,15.")),
        DescribeParams,
        skip=frozenset({"ids"}),
    ),
    Command(
        "review interpolate",
        "review.through_z:interpolate",
        "Interpolate fossils between slices that were annotated.",
        params=InterpolateParams,
    ),
    Command(
        "review copy",
        "review.through_z:copy",
        "Copy masks of a slice to the next one, the previous one or others.",
        (PROJECT, argument("ids", str, "IDS", "Ids, e.g. 12,15.")),
        CopyParams,
        skip=frozenset({"ids"}),
    ),
    Command(
        "review specimens",
        "review.through_z:specimens",
        "Merge specimens, split one, or describe or delete them in all their slices.",
        (PROJECT, argument("specimens", str, "NUMBERS", "Numbers of specimens, e.g. 3,7.")),
        SpecimensParams,
        skip=frozenset({"specimens"}),
    ),
    Command(
        "review same",
        "review.through_z:same",
        "Say whether two linked sections are of one specimen.",
        (
            PROJECT,
            argument("before", int, "BEFORE", "Id of the section in the earlier slice."),
            argument("after", int, "AFTER", "Id of the section in the later slice."),
        ),
        SameParams,
        skip=frozenset({"before", "after"}),
    ),
    Command(
        "review swap",
        "review.shapes:swap",
        "Give each of two masks of a slice the specimen of the other one.",
        (PROJECT, argument("ids", str, "IDS", "Two ids, e.g. 12,15.")),
        SwapParams,
        skip=frozenset({"ids"}),
    ),
    Command(
        "review agreement",
        "review.agreement:run",
        "Compare predictions with the masks that were found right, by class.",
        params=AgreementParams,
    ),
    Command(
        "review undo",
        "review.journal:undo",
        "Undo the newest change of the annotations, made here or in the window.",
    ),
    Command(
        "review redo",
        "review.journal:redo",
        "Redo the change of the annotations that was undone last.",
    ),
    Command(
        "review history",
        "review.journal:history",
        "List the changes of the annotations that can be undone, newest first.",
        params=HistoryParams,
    ),
    Command(
        "review versions",
        "review.journal:versions",
        "List the named versions of the annotations; name one, or bring one back.",
        params=VersionsParams,
    ),
    Command(
        "review teach",
        "review.teach:run",
        "Train the model further on corrected slices and judge it on the pinned ones; keep it or"
        " roll it back.",
        params=TeachParams,
    ),
    Command(
        "train",
        "segment.train:run",
        "Train a Mask R-CNN on a few traced slices.",
        params=TrainParams,
    ),
    Command(
        "predict",
        "segment.predict:run",
        "Find fossils in slices; finished slices are kept and not predicted again.",
        params=PredictParams,
    ),
    Command(
        "refine",
        "segment.refine:run",
        "Fit a second stage to traced slices that draws a model's masks again, pixel by pixel.",
        params=RefineParams,
    ),
    Command(
        "calibrate",
        "segment.calibrate:run",
        "Make the scores of a model probabilities, on traced slices.",
        params=CalibrateParams,
    ),
    Command(
        "evaluate",
        "segment.evaluate:run",
        "Judge a model on traced slices.",
        params=EvaluateParams,
    ),
    Command(
        "distance",
        "agenda.distance:run",
        "Measure how far slices are from those a model knows, and whether it does worse there.",
        params=DistanceParams,
    ),
    Command(
        "expect",
        "agenda.expected:run",
        "Say which F-score to expect of slices that are not traced, and which model to take.",
        params=ExpectParams,
    ),
    Command(
        "suggest",
        "agenda.suggest:run",
        "Suggest which slices to trace next, and say why.",
        params=SuggestParams,
    ),
    Command(
        "agenda",
        "agenda.marks:run",
        "List the slices that are marked to be traced; mark some, or take the mark from some.",
        params=MarkParams,
    ),
    Command(
        "link",
        "reef.link:run",
        "Join the instances of neighbouring slices to specimens.",
        params=LinkParams,
    ),
    Command(
        "mesh",
        "reef.mesh:run",
        "Write a closed surface of every specimen.",
        (PROJECT, argument("out_dir", Path, "OUT_DIR", "Folder for the meshes.")),
        MeshParams,
    ),
    Command(
        "export",
        "reef.export:run",
        "Write all specimens into one file: a scene of surfaces, or a label volume.",
        (
            PROJECT,
            argument(
                "out",
                Path,
                "OUT",
                "Scene (.glb .3mf .ply .stl .obj .vaxml) or volume (.nrrd .nii.gz .tif .zarr).",
            ),
        ),
        MeshParams,
        skip=frozenset({"format"}) | SPREAD,
    ),
    Command(
        "orient",
        "reef.orient:run",
        "Say how the block was cut and how its bedding lay: measurements then give directions.",
        params=OrientParams,
    ),
    Command(
        "report",
        "reef.report:run",
        "Write a page about all specimens: pictures, measurements, where they come from.",
        (PROJECT, argument("out", Path, "OUT.html", "Page; its figures come beside it.")),
        ReportParams,
        skip=frozenset({"format", "unit", "plots"}) | SPREAD,
    ),
    Command(
        "measure",
        "reef.measure:run",
        "Measure every specimen, its branches and the reef: tables, a record, and plots.",
        (PROJECT, argument("out", Path, "OUT.csv", "Table to write: CSV, JSON or Parquet.")),
        MeasureParams,
        skip=frozenset({"format", "unit"}) | SPREAD,
    ),
    Command(
        "pictures",
        "reef.pictures:run",
        "Draw predictions beside traced slices, and the specimens in 3D.",
        (PROJECT, argument("out_dir", Path, "OUT_DIR", "Folder for the pictures.")),
        PictureParams,
    ),
    Command(
        "morphospace train",
        "morphospace.train:train",
        "Learn from named specimens which ones are alike.",
        (SOURCE,),
        MetricParams,
    ),
    Command(
        "morphospace embed",
        "morphospace.train:embed",
        "Compute a point for each specimen, which all the others work on.",
        (SOURCE,),
        EmbedParams,
    ),
    Command(
        "morphospace evaluate",
        "morphospace.judge:evaluate",
        "Judge a training on specimens and classes that it has not seen.",
        (SOURCE,),
        JudgeParams,
    ),
    Command(
        "morphospace classify",
        "morphospace.sort:classify",
        "Say of each item which class it is of, or that it is like none.",
        (SOURCE,),
        ClassifyParams,
    ),
    Command(
        "morphospace cluster",
        "morphospace.sort:cluster",
        "Group items by their looks alone, whatever their names.",
        (SOURCE,),
        ClusterParams,
    ),
    Command(
        "morphospace map",
        "morphospace.lay_out:lay_out",
        "Lay items out in a plane, those that look alike near one another, and draw it.",
        (SOURCE,),
        MapParams,
    ),
    Command(
        "morphospace disparity",
        "morphospace.lay_out:disparity",
        "Measure how diverse the forms of classes and of neighbouring slices are.",
        (SOURCE,),
        DisparityParams,
    ),
    Command(
        "morphospace similar",
        "morphospace.alike:similar",
        "List the items that look most like some others.",
        (SOURCE, argument("items", str, "ITEMS", "Ids or paths, e.g. 12,15.")),
        SimilarParams,
        skip=frozenset({"items"}),
    ),
    Command(
        "morphospace outliers",
        "morphospace.alike:outliers",
        "List the items that are like no other, or like those of another name.",
        (SOURCE,),
        OutlierParams,
    ),
    Command(
        "morphospace sections",
        "morphospace.alike:sections",
        "List pairs of instances in different slices that may be of the same specimen.",
        (SOURCE,),
        SectionsParams,
    ),
    Command(
        "morphospace name",
        "morphospace.name:name",
        "Give items a class or a texture, as one change that can be undone.",
        (SOURCE,),
        NameParams,
    ),
    Command(
        "morphospace names",
        "morphospace.name:export_names",
        "Write names and answers as a table, which 'morphospace name --file' reads.",
        (SOURCE, argument("out", Path, "OUT.csv", "Table to write, CSV or JSON.")),
        PointsParams,
    ),
    Command(
        "convert",
        "stack.convert:run",
        "Copy the stack into the project as OME-Zarr, for fast stepping and zooming.",
        params=ConvertParams,
    ),
    Command(
        "stack verify",
        "stack.convert:verify",
        "Read the whole converted copy back, and name slices that are damaged.",
        params=SpreadParams,
    ),
    Command(
        "perturb",
        "shared.perturbed_slices:run",
        "Fill parts of a slice with mud, texture or noise, as the model would see it.",
        (PROJECT, SLICE),
        PerturbParams,
        (option("out", Path | None, "PNG to write.", None),),
    ),
    Command(
        "mud",
        "shared.perturbed_slices:pick_mud",
        "Take the colour at a pixel for the mud colour of the project.",
        (
            PROJECT,
            SLICE,
            argument("x", float, "X", "Column of the pixel."),
            argument("y", float, "Y", "Row of the pixel."),
        ),
    ),
    Command(
        "probe",
        "probe.run:run",
        "Find out what misleads a model: perturb slices and compare what it then sees.",
        params=ProbeParams,
        skip=frozenset({"preset"}),
    ),
    Command(
        "saliency",
        "saliency.look:run",
        "Show what a model looks at in a slice when it finds a fossil or draws its mask.",
        params=SaliencyParams,
    ),
    Command(
        "saliency-report",
        "saliency.report:run",
        "Measure how unequally a model looks at the slices and colours that it sees.",
        params=AsymmetryParams,
    ),
    Command(
        "edit",
        "edit.run:run",
        "Rewrite a model with perturbed slices and judge it; the model itself is not touched.",
        params=EditParams,
    ),
    Command(
        "repair",
        "repair.run:run",
        "Find out what misleads a model at one wrong place, and propose an edit that mends it.",
        params=RepairParams,
    ),
    Command(
        "edits list",
        "edit.decide:listing",
        "List models and edits, each below what it was made from.",
    ),
    Command(
        "edits show", "edit.decide:show", "Show all that is known of an edit.", (PROJECT, EDIT)
    ),
    Command(
        "edits apply",
        "edit.decide:apply",
        "Keep an edit: the model with it is in use from now on.",
        (PROJECT, EDIT),
        options=(
            option("strength", float | None, "Share of the edit from now on.", None),
            option("score", float | None, "Score threshold from now on.", None),
        ),
    ),
    Command(
        "edits rollback",
        "edit.decide:rollback",
        "Take an edit back: its parent is in use again, with the very same predictions.",
        (PROJECT, EDIT),
    ),
    Command(
        "edits export",
        "edit.decide:export",
        "Write a model with its edits as a model folder of its own.",
        (PROJECT, EDIT, argument("out", Path, "OUT", "New folder for the model.")),
    ),
    Command(
        "edits compose",
        "edit.decide:compose",
        "Add up edits, each at its strength, to a new one; one edit makes a copy.",
        (PROJECT, argument("edits", list[str], "EDIT...", "Edits to add up.")),
        options=(NEW_NAME,),
    ),
    Command(
        "edits invert",
        "edit.decide:invert",
        "Make an edit on top of an edit that takes it away, up to rounding.",
        (PROJECT, EDIT),
        options=(NEW_NAME,),
    ),
    Command(
        "models list",
        "segment.model_files:list_models",
        "List the models and edits of a project and the models that come along.",
    ),
    Command(
        "models import",
        "segment.model_files:import_model",
        "Make a checkpoint of detectron2 a model of the project; detectron2 is not needed.",
        (PROJECT, argument("file", Path, "FILE", "Checkpoint, .pth or .pkl.")),
        ImportModelParams,
    ),
    Command(
        "models fetch",
        "segment.fetch:run",
        "Fetch weights trained on COCO from their makers, once, for train --init (178 to 431 MB).",
        (argument("name", CocoWeights, "NAME", "Whose, and which network."),),
        FetchParams,
        skip=frozenset({"name"}),
    ),
    Command(
        "models export",
        "segment.model_files:export_model",
        "Write a model or an edit as a checkpoint of detectron2 with its configuration.",
        (
            PROJECT,
            argument("model", str, "MODEL", "Name of a model or edit."),
            argument("out", Path, "OUT", "New folder for the checkpoint."),
        ),
        ExportModelParams,
    ),
)


class _Program(TyperGroup):
    """Prints errors of usage as JSON as well, where results were asked for as JSON."""

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
        """Read the options of the program."""
        as_json = "--json" in args
        with usage_errors(as_json):
            context = super().make_context(info_name, args, *more, **extra)
        context.meta[__name__] = as_json
        return context

    def invoke(self, ctx: Any) -> Any:
        """Read the options of a command, and run it."""
        with usage_errors(ctx.meta[__name__]):
            return super().invoke(ctx)


app = typer.Typer(
    name="fossiledit",
    cls=_Program,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Turn photographs of a ground-away rock into a 3D fossil reef.",
)


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
    # A window can be drawn everywhere but on a Linux without a screen.
    screen = sys.platform != "linux" or {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ)
    if not no_gui:
        _show(result.project)
    elif screen:
        from napari_fossiledit.widgets.start.window import picture

        picture(result.project, result.results["predict"]["source"], result.window_picture)
    return result


def _show(project: Path) -> None:
    """Open the window; Qt is imported here and not before."""
    from napari_fossiledit.widgets.start.window import show

    show(project)


_apps = {"": app} | {
    name: typer.Typer(no_args_is_help=True, help=text) for name, text in GROUPS.items()
}
for _name in GROUPS:
    app.add_typer(_apps[_name], name=_name)
for _command in COMMANDS:
    _command.add_to(_apps)


@app.command("open")
@fossil_command()
def open_project(
    project: Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")], job: Job
) -> Summarised:
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
