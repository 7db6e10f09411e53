"""Models of a project: list them, import checkpoints of detectron2, and export for it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import appearing, file_digest, read_json, require_empty
from napari_fossiledit.models.files.places import RECORD, SHIPPED, shipped_models
from napari_fossiledit.params.segment import Device, ExportModelParams, ImportModelParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.project import EditRecord, Project
from napari_fossiledit.summary import Summary, plain
from napari_fossiledit.workflows.shared.foreign_models import (
    proposed_name,
    read_foreign,
)
from napari_fossiledit.workflows.shared.model_refs import find_model, in_use, require_free_name

if TYPE_CHECKING:
    from napari_fossiledit.models.detectron2.read import Imported
    from napari_fossiledit.models.inference.protocol import Segmenter

IMPORTED = "imported"
"""Key in the record of a model: the file it is from."""


@dataclass(frozen=True)
class ListedModel:
    """One model or edit.

    Attributes
    ----------
    kind
        ``trained``, ``imported``, ``edit`` or ``shipped``.
    of
        What an edit was made from, or the file a model was imported from.
    problem
        What is wrong with its files, as far as their records show; empty: nothing.
    """

    name: str
    kind: str
    architecture: str = ""
    classes: tuple[str, ...] = ()
    of: str = ""
    problem: str = ""

    def summary(self) -> dict[str, Any]:
        """Return what there is but the name, as JSON-able values."""
        return {k: plain(v) for k, v in vars(self).items() if v and k != "name"}


@dataclass(frozen=True)
class ModelList:
    """The models of a project; `in_use` is empty where none was decided for."""

    models: tuple[ListedModel, ...]
    in_use: str

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {"model_in_use": self.in_use, "models": {m.name: m.summary() for m in self.models}}


@dataclass(frozen=True)
class ImportedModel(Summary):
    """A model that was imported.

    Attributes
    ----------
    model
        Its name.
    notes
        What was assumed, in sentences for the user.
    """

    model: str
    architecture: str
    classes: tuple[str, ...]
    folder: Path
    model_hash: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ExportedModel(Summary):
    """A model that was written for detectron2.

    Attributes
    ----------
    model
        Its name.
    notes
        What detectron2 does differently with it, in sentences for the user.
    """

    model: str
    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]


# ------------------------------------------------------------------- listing


def list_models(project_path: Path, *, job: Job = QUIET) -> ModelList:
    """List the models and edits of a project and the models that come along.

    Reads no weights and does not import torch.
    """
    with Project.open(project_path, read_only=True) as project:
        own = [_listed(name, project.model_folder(name)) for name in project.models()]
        edits = [
            ListedModel(name, "edit", of=record.parent)
            if isinstance(record := project.edits.look(name), EditRecord)
            else ListedModel(name, "edit", problem=str(record))
            for name in project.edits.names()
        ]
        shipped = [_listed(n, SHIPPED / n) for n in shipped_models() if n not in project.models()]
        return ModelList((*own, *edits, *shipped), in_use(project))


def _listed(name: str, folder: Path) -> ListedModel:
    try:
        content = read_json(folder / RECORD, "the record of a model")
    except FossilError as error:
        return ListedModel(name, "trained", problem=str(error))
    record = content if isinstance(content, dict) else {}
    network, training = (_section(record, key) for key in ("network", "training"))
    imported = _section(training, IMPORTED)
    kind = "shipped" if folder.parent == SHIPPED else IMPORTED if imported else "trained"
    classes = network.get("classes")
    return ListedModel(
        name,
        kind,
        str(network.get("architecture", "")),
        tuple(map(str, classes)) if isinstance(classes, list) else (),
        str(imported.get("file", "")),
        "" if network else f"{folder / RECORD} is not the record of a model.",
    )


def _section(record: dict[str, Any], key: str) -> dict[str, Any]:
    section = record.get(key)
    return section if isinstance(section, dict) else {}


# ------------------------------------------------------------------- import


def import_model(
    project_path: Path,
    file: Path,
    params: ImportModelParams,
    *,
    job: Job = QUIET,
) -> ImportedModel:
    """Make a checkpoint of detectron2 a model of the project, used by its name like any other.

    Parameters
    ----------
    file
        ``.pth`` of detectron2's checkpointer or ``.pkl`` of its model zoo.

    Raises
    ------
    FossilError
        Where the name is taken, the file cannot be used (see `read_foreign`), or the disk is
        full; nothing is then left behind.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        full = params.model_copy(update={"name": params.name or proposed_name(file)})
        project.model_folder(full.name)
        require_free_name(project, full.name)
        options = {"file": str(file.absolute()), **full.model_dump(mode="json")}
        with project.ledger.recorded("models import", options) as summary:
            result = _imported(project, file, full, job)
            summary.update(result.summary())
    return result


def _imported(
    project: Project,
    file: Path,
    params: ImportModelParams,
    job: Job,
) -> ImportedModel:
    clock = job.clock(3, "Reading the checkpoint")
    clock.tick(0)
    # Only now: the import of torch takes seconds.
    from napari_fossiledit.models.files.registry import save_model

    foreign = read_foreign(
        file,
        project.settings.classes,
        classes=params.classes,
        config=params.config,
    )
    job.check("The import")
    clock.tick(1, "Building the network")
    segmenter, more = _built(foreign.model, params.scale, project.geometry.pixel_size_um)
    notes = (*foreign.notes, *more)
    job.check("The import")
    clock.tick(2, "Saving the model")
    folder = project.model_folder(params.name)
    origin = {
        "file": str(file.absolute()),
        "sha256": file_digest(file, "sha256"),
        **params.model_dump(mode="json", exclude={"version", "name"}),
        "score_threshold": foreign.model.score_threshold,
        "max_detections": foreign.model.max_detections,
        "notes": list(notes),
    }
    with appearing(folder) as hidden:
        save_model(segmenter, hidden, training={IMPORTED: origin})
    clock.tick(3, "Saved the model")
    spec = foreign.model.spec
    return ImportedModel(
        params.name, str(spec.architecture), spec.classes, folder, segmenter.model_hash, notes
    )


def _built(
    model: Imported, scale: float, pixel_size_um: float
) -> tuple[Segmenter, tuple[str, ...]]:
    """Build the model, at a fixed scale where one was given."""
    from napari_fossiledit.models.inference.preprocessing import Resize

    if not scale:
        return model.segmenter(Device.CPU), ()
    changes = {"resize": Resize.SCALE, "scale": scale, "pixel_size_um": pixel_size_um}
    fixed = replace(model, preprocessing=model.preprocessing.model_copy(update=changes))
    note = (
        f"Slices enter at {scale:g} network pixels per pixel of {pixel_size_um:g} um, large ones in"
        " tiles, instead of being resized as detectron2 would."
    )
    return fixed.segmenter(Device.CPU), (note,)


# ------------------------------------------------------------------- export


def export_model(
    project_path: Path,
    name: str,
    out: Path,
    params: ExportModelParams | None = None,
    *,
    job: Job = QUIET,
) -> ExportedModel:
    """Write a model or an edit as ``model_final.pth`` and ``config.yaml`` of detectron2.

    Parameters
    ----------
    name
        Trained, imported, edited or shipped; empty: the one in use.
    out
        New or empty folder.

    Raises
    ------
    FossilError
        Where there is no such model, detectron2 has no such network, `out` is not empty, or the
        disk is full; nothing is then left behind.
    """
    chosen = params or ExportModelParams()
    with Project.open(project_path) as project:
        ref = find_model(project, name)
        require_empty(out, "a model")
        options = {"model": ref.name, "out": str(out.absolute()), **chosen.model_dump(mode="json")}
        # A project that is read-only can be exported from all the same.
        recorded = (
            nullcontext(dict[str, Any]())
            if project.read_only
            else project.ledger.recorded("models export", options)
        )
        with recorded as summary:
            clock = job.clock(2, "Loading the model")
            clock.tick(0)
            from napari_fossiledit.models.detectron2.read import CONFIG
            from napari_fossiledit.models.detectron2.write import (
                CHECKPOINT,
                DetectionLimits,
                write_detectron2,
            )

            segmenter = ref.load(Device.CPU)
            job.check("The export")
            clock.tick(1, "Writing the checkpoint")
            limits = DetectionLimits(chosen.score, chosen.max_detections)
            with appearing(out) as hidden:
                name = f"The model {ref.name!r}"
                notes = write_detectron2(segmenter, hidden, name=name, limits=limits)
            result = ExportedModel(ref.name, out, (CHECKPOINT, CONFIG), notes)
            clock.tick(2, "Wrote the checkpoint")
            summary.update(result.summary())
    return result
