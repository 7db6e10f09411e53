"""Models by the names that users give them, and the source of their predictions.

Models and edits share their names: whatever takes a model takes an edit as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, inside, read_json
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.models.files.places import RECORD, SHIPPED, STATE, shipped_models
from napari_fossiledit.models.inference.values import Shown
from napari_fossiledit.models.native.backends import check_precision
from napari_fossiledit.params.segment import Backend, Device, Engine, Precision, PredictParams
from napari_fossiledit.project import EditRecord, EditState, EditStore, Project, Source
from napari_fossiledit.project.history import HistoryEntry, history
from napari_fossiledit.workflows.shared.foreign_models import (
    checkpoint_name,
    is_checkpoint,
    read_foreign,
)
from napari_fossiledit.workflows.shared.stack_values import StackValues
from napari_fossiledit.workflows.shared.taught import TeachingState, read_teaching

if TYPE_CHECKING:
    from napari_fossiledit.editing.edit import Edit
    from napari_fossiledit.evaluation.calibration import Calibration
    from napari_fossiledit.models.inference.looks import Look
    from napari_fossiledit.models.inference.preprocessing import Preprocessing
    from napari_fossiledit.models.inference.protocol import Segmenter
    from napari_fossiledit.models.refine.refiner import RefinerRecord
    from napari_fossiledit.stacks.window import Window

_IN_USE = "model_in_use"
_IMPORT = "fossiledit models import PROJECT FILE"


@dataclass(frozen=True)
class ModelRef:
    """A model on disk.

    Attributes
    ----------
    name
        What its predictions are called.
    folder
        Folder with ``model.json`` and the weights; of an edit, with its own two files.
    address
        Text by which `find_model` finds it again from anywhere: its name, or an absolute path.
    values
        Values of the stack that it is to predict; None: they are those it learned with.
    home
        Folder of the project that it is used in, where its refiner and its calibration are; None:
        no project.
    """

    name: str
    folder: Path
    address: str
    values: StackValues | None = field(default=None, kw_only=True, compare=False, repr=False)
    home: Path | None = field(default=None, kw_only=True, compare=False, repr=False)

    @property
    def root(self) -> ModelRef:
        """The model that was trained: this one, or the one an edit goes back to."""
        return self

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions about the model and the stack, in sentences for the user."""
        shown = () if self.shown is None else (self.shown.note,)
        return shown if self.values is None else shown + self.window.notes(self.values.coloured)

    @cached_property
    def shown(self) -> Shown | None:
        """Values of the stack that it is shown as black and white; None: those it learned with.

        Raises
        ------
        FossilError
            Where they cannot be known.
        """
        if self.values is None:
            return None
        return self.values.shown_to((self.preprocessing.low, self.preprocessing.high))

    @property
    def window(self) -> Window:
        """Return what it sees with each slice."""
        return self.preprocessing.window

    @property
    def preprocessing(self) -> Preprocessing:
        """Settings that it was trained with; of an edit, those of the model below."""
        from napari_fossiledit.models.files.registry import read_record

        return read_record(self.root.folder).preprocessing

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """How the slices looked that it learned from; empty: nobody wrote it down."""
        from napari_fossiledit.models.files.registry import read_record

        looks = read_record(self.folder).training.get("looks", ())
        return tuple(tuple(look) for look in looks)

    @property
    def model_hash(self) -> str:
        """Digest of the model, read from its record without loading the weights."""
        from napari_fossiledit.models.files.registry import read_record

        return read_record(self.folder).model_hash

    @property
    def refiner_folder(self) -> Path:
        """Folder of its refiner, whether there is one or not."""
        return inside((self.home or self.folder) / "refiners", self.name)

    @property
    def refiner(self) -> RefinerRecord:
        """Record of its refiner.

        Raises
        ------
        FossilError
            Where it has none, or one that was fitted for other weights.
        """
        from napari_fossiledit.models.refine.files import read_refiner_record

        return read_refiner_record(self.refiner_folder, self.name, self.model_hash)

    @property
    def calibration_path(self) -> Path:
        """File of its calibration, whether there is one or not."""
        return inside((self.home or self.folder) / "calibrations", f"{self.name}.json")

    @property
    def calibration(self) -> Calibration:
        """Return what makes its scores probabilities.

        Raises
        ------
        FossilError
            Where there is none, it cannot be read, or it was fitted for other weights.
        """
        from napari_fossiledit.evaluation.calibration import Calibration

        path, again = self.calibration_path, f"'fossiledit calibrate PROJECT --model {self.name}'."
        if not path.is_file():
            raise FossilError(
                f"The scores of the model {self.name!r} are not calibrated yet",
                expected=path,
                found="no such file",
                advice=f"Do it on traced slices: {again}",
            )
        read = read_json(path, "the calibration of a model")
        try:
            calibration = Calibration.model_validate_json(json.dumps(read))
        except ValidationError as error:
            first = error.errors()[0]
            raise FossilError(
                f"{path} is not the calibration of a model",
                expected="fields as this program writes them",
                found=f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
                advice=f"Make it again: {again}",
            ) from error
        if calibration.model_hash != self.model_hash:
            raise FossilError(
                f"{path} was made for another model than {self.name!r}",
                expected=f"the calibration of the model with hash {self.model_hash[:12]}",
                found=f"that of {calibration.model_hash[:12]}",
                advice=f"Make it again: {again}",
            )
        return calibration

    def load(self, device: Device = Device.AUTO) -> Segmenter:
        """Load the model to a device, for the stack; torch is imported here and not before."""
        loaded, shown = self._load(device), self.shown
        return loaded if shown is None else loaded.showing(shown.low, shown.high)

    def _load(self, device: Device) -> Segmenter:
        from napari_fossiledit.models.files.registry import load_model
        from napari_fossiledit.models.inference.devices import pick_device

        return load_model(self.folder, pick_device(device))

    def on(self, device: Device, backend: Backend) -> Segmenter:
        """Load the model to a device, to be computed by a backend.

        Raises
        ------
        FossilError
            Where the backend is not installed or does not have the network, see `load` also.
        """
        from napari_fossiledit.models.native.backends import on_backend

        return on_backend(self.load(device), backend)


@dataclass(frozen=True)
class EditRef(ModelRef):
    """A model with an edit: its parent's weights, and what the edit adds to them.

    Attributes
    ----------
    parent
        The model or edit below.
    record
        Record of the edit when it was looked up.
    store
        Where its weights are.
    """

    parent: ModelRef
    record: EditRecord
    store: EditStore

    @property
    def root(self) -> ModelRef:
        """The model that was trained."""
        return self.parent.root

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """How the slices looked that the model below learned from."""
        return self.parent.looks

    @cached_property
    def shown(self) -> Shown | None:
        """Values of the stack that the model below is shown as black and white."""
        return self.parent.shown

    @property
    def below(self) -> tuple[str, ...]:
        """Names of the edits that this one was made on top of, the nearest first."""
        parent = self.parent
        return (parent.name, *parent.below) if isinstance(parent, EditRef) else ()

    @property
    def model_hash(self) -> str:
        """Digest of the model with the edit at its strength, from the records alone.

        Raises
        ------
        FossilError
            Where the parent is another one than the edit was made from.
        """
        self._require_parent(self.parent.model_hash)
        return self.record.result_hash

    def _require_parent(self, model_hash: str) -> None:
        if model_hash != self.record.parent_hash:
            raise FossilError(
                f"The edit {self.name!r} was made from another {self.parent.name!r}",
                expected=f"a model with hash {self.record.parent_hash[:12]}",
                found=model_hash[:12],
                advice="Bring that model back, or make the edit again from the one there is now.",
            )

    def load(self, device: Device = Device.AUTO) -> Segmenter:
        """Load the parent, and add the edit at the strength that was chosen.

        The sum is taken on the CPU, so that every machine computes the same model.

        Raises
        ------
        FossilError
            Where the weights are damaged, do not fit, or give another model than was recorded.
        """
        from napari_fossiledit.models.inference.devices import pick_device

        where = pick_device(device)
        edited = self.at_strength(self.record.strength)
        if edited.model_hash != self.record.result_hash:
            raise FossilError(
                f"The edit {self.name!r} gives another model than its record holds",
                expected=f"hash {self.record.result_hash[:12]} at strength {self.record.strength}",
                found=edited.model_hash[:12],
                advice=f"{self.folder} was changed: set the strength again with"
                f" 'fossiledit edits apply PROJECT {self.name}'.",
            )
        return edited.to(where)

    def at_strength(self, strength: float) -> Segmenter:
        """Load the parent to the CPU and add the edit at any strength.

        Raises
        ------
        FossilError
            Where the parent is another one, or the weights are damaged or do not fit it.
        """
        # Always from the parent: subtracting a delta does not give its weights back bit by bit.
        self._require_parent(self.parent.model_hash)
        edit, parent = self.edit, self.parent.load(Device.CPU)
        self._require_parent(parent.model_hash)
        return edit.apply(parent, strength)

    @property
    def edit(self) -> Edit:
        """The weights that are added at strength 1; read anew each time."""
        from napari_fossiledit.editing.edit import Edit

        place = f"The weights of the edit {self.name!r} in {self.folder}"
        return Edit.from_bytes(self.store.delta(self.name), place)


@dataclass(frozen=True)
class FileRef(ModelRef):
    """A checkpoint of detectron2 that is used where it lies; `folder` is the file.

    Attributes
    ----------
    known
        Classes of the project.
    """

    known: tuple[str, ...]

    @cached_property
    def _read(self) -> tuple[Segmenter, tuple[str, ...]]:
        say = f"Import it and say which is which: {_IMPORT}"
        found = read_foreign(self.folder, self.known, say=say)
        return found.model.segmenter(Device.CPU), found.notes

    @property
    def notes(self) -> tuple[str, ...]:
        """Assumptions about the model and the stack, for which the file is read."""
        return (*self._read[1], *super().notes)

    @property
    def looks(self) -> tuple[Look, ...]:
        """Nothing: another program wrote the file."""
        return ()

    @property
    def preprocessing(self) -> Preprocessing:
        """Settings that the file says or implies."""
        return self._read[0].preprocessing

    @property
    def model_hash(self) -> str:
        """Digest of the model, for which the file is read."""
        return self._read[0].model_hash

    def _load(self, device: Device) -> Segmenter:
        from napari_fossiledit.models.inference.devices import pick_device

        return self._read[0].to(pick_device(device))


def require_kept(ref: ModelRef) -> None:
    """Check that a model is the project's: what is made of a model must find it again.

    Raises
    ------
    FossilError
        Where the model is a checkpoint outside of the project.
    """
    if isinstance(ref.root, FileRef):
        raise FossilError(
            f"{ref.root.folder} is no model of the project",
            expected="a model by its name",
            found="a file",
            advice=f"Import it first: '{_IMPORT}'.",
        )


def find_model(project: Project | None, text: str) -> ModelRef:
    """Find a model or an edit by its name in the project, a shipped model, or a folder or file.

    Parameters
    ----------
    text
        Empty: the model in use.

    Raises
    ------
    FossilError
        Where there is no such model, two have the name, or one that an edit was made from is gone.
    """
    if project is None:
        return _model(None, text)
    text = text or in_use(project)
    if text not in project.edits.names():
        return _model(project, text)
    if text in project.models():
        raise FossilError(
            f"The project has a model and an edit named {text!r}",
            expected="one of them",
            found=f"{project.model_folder(text)} and {project.edits.place(text)}",
            advice="Move one of the two folders out of the project.",
        )
    records = project.edits.lineage(text)
    first = records[0]
    try:
        ref = _model(project, first.parent)
    except FossilError as error:
        raise FossilError(
            f"The edit {first.name!r} was made from the model {first.parent!r},"
            " which is not there any more",
            advice="Bring that model back, or use another one.",
        ) from error
    for record in records:
        folder = project.edits.place(record.name)
        ref = EditRef(
            record.name, folder, record.name, ref, record, project.edits, home=project.path
        )
    return ref


def _model(project: Project | None, text: str) -> ModelRef:
    """Find a model that is no edit."""
    values = None if project is None else StackValues(project)
    home = None if project is None else project.path
    if project is not None and text in project.models():
        return ModelRef(text, project.model_folder(text), text, values=values, home=home)
    if text in shipped_models():
        return ModelRef(text, SHIPPED / text, text, values=values, home=home)
    path = Path(text)
    with explained(path, "Looking at"):
        if is_checkpoint(path):
            known = () if project is None else project.settings.classes
            place = path.resolve()
            name = checkpoint_name(path)
            return FileRef(name, place, str(place), known, values=values, home=home)
        if text and path.exists():
            folder = path if path.is_dir() else path.parent
            place = folder.resolve()
            return ModelRef(place.name, folder, str(place), values=values, home=home)
    raise FossilError(
        f"There is no model {text!r}" if text else "No model was named, and none is in use",
        expected=f"one of {', '.join(model_names(project))}, a model folder or a checkpoint file",
        advice="Train one first, or use the shipped reef-lite.",
    )


def history_of(project: Project) -> tuple[HistoryEntry, ...]:
    """Return the history tree of an open project, without loading torch."""
    own = {name: project.model_folder(name) for name in project.models()}
    folders = dict(own)
    for parent in {record.parent for record in project.edits.sound()} - {*project.edits.names()}:
        if parent not in own and parent in shipped_models():
            folders[parent] = SHIPPED / parent
        elif parent not in own and Path(parent).is_absolute():
            folders[parent] = Path(parent)
    hashes: dict[str, str] = {}
    for name, folder in folders.items():
        try:
            content = read_json(folder / RECORD, "the record of a model")
        except FossilError:
            content = None
        model_hash = str(content.get("model_hash", "")) if isinstance(content, dict) else ""
        # A model of the project is listed even if its record cannot be read.
        if model_hash or name in own:
            hashes[name] = model_hash
    return history(project.edits, hashes)


def model_names(project: Project | None) -> list[str]:
    """Return the names of all models: the project's, its edits, those that come along."""
    own = [] if project is None else [*project.models(), *project.edits.names()]
    return list(dict.fromkeys([*own, *shipped_models()]))


def in_use(project: Project) -> str:
    """Return the name of the model that the user decided for last; empty: none."""
    name = project.ledger.get_meta(_IN_USE, "")
    return name if isinstance(name, str) else ""


def standing(project: Project, name: str) -> str:
    """Return why a model or an edit is never chosen unless it is named; empty: nothing is wrong."""
    if name in project.edits.names():
        record = project.edits.look(name)
        if not isinstance(record, EditRecord):
            return "damaged"
        return "rolled back" if record.state is EditState.ROLLED_BACK else ""
    try:
        taught = read_teaching(project, name) if name in project.models() else None
    except FossilError:
        return "damaged"
    if name in project.models() and (project.model_folder(name) / STATE).exists():
        return "unfinished"
    return "" if taught is None or taught.state is TeachingState.KEPT else str(taught.state)


def set_in_use(project: Project, name: str) -> None:
    """Set the model that is used where none is named."""
    project.ledger.set_meta(_IN_USE, name)


def require_free_name(project: Project, name: str) -> None:
    """Check that no model, shipped or own, and no edit has a name.

    Raises
    ------
    FossilError
        Where the name is taken, or is no plain name.
    """
    project.edits.require_free(name)
    if name in shipped_models():
        raise FossilError(
            f"A model that comes with the program is named {name!r}", expected="a new name"
        )


def halved_from(params: PredictParams) -> int | None:
    """Return the number of the first view that is computed in bfloat16 here, None for none of them.

    Which one is known only where it is computed: `auto`, and `mixed` too, are float32 on a device
    that is not faster otherwise.

    Raises
    ------
    FossilError
        Where mixed precision was asked of another backend.
    """
    check_precision(params.precision, params.backend)
    wish = params.precision
    if wish is Precision.MIXED or (params.engine is Engine.FAST and wish is Precision.AUTO):
        first = 0
    # Views that find give scores, too.
    elif wish is Precision.AUTO and params.views != 1 and not params.views_find:
        first = 1
    else:
        return None
    if params.backend is not Backend.TWIN:
        return None
    from napari_fossiledit.models.inference.devices import pick_device
    from napari_fossiledit.models.inference.precision import gains

    return first if gains(pick_device(params.device)) else None


def prediction_source(
    ref: ModelRef, model_hash: str, params: PredictParams, slices: Sequence[int] = ()
) -> Source:
    """Return the source of the predictions of one model with one choice of options.

    Parameters
    ----------
    slices
        Slices that are predicted together: with a neighbour prior each one depends on the others.
    """
    settings = f"{params.tiles}:{params.max_detections}:{params.score_floor}"
    if params.neighbour_weight:
        prior = (params.neighbour_weight, params.neighbour_direction, params.neighbour_score)
        settings += f":{':'.join(map(str, prior))}:{format_slices(sorted(set(slices)))}"
    if params.views != 1:
        settings += f":{params.views:d} views{' find' if params.views_find else ''}"
    if params.backend is not Backend.TWIN:
        settings += f":{params.backend}"
    halved = halved_from(params)
    # In bfloat16 both engines are one.
    if params.engine is not Engine.EXACT and halved != 0:
        settings += f":{params.engine}"
    if halved is not None:
        settings += f":bfloat16 from view {halved}"
    # A refiner that turned itself off for every class changes nothing.
    if params.refine and (refiner := ref.refiner).classes:
        settings += f":refined {refiner.refiner_hash}"
        if params.exclusive:
            settings += ":exclusive"
    if params.calibrated and (calibration := ref.calibration).classes:
        settings += f":calibrated {calibration.hash}"
    if ref.shown is not None:
        settings += f":values {ref.shown.low:g} to {ref.shown.high:g}"
    return Source.predicted(ref.name, model_hash, settings)
