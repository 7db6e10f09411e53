"""The project folder, ``NAME.fossil/``."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, inside, require_empty, require_writable, write_json
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project.edits import EditStore
from napari_fossiledit.project.labels import LabelVolume, labelled_instances
from napari_fossiledit.project.ledger import Ledger
from napari_fossiledit.project.settings import (
    ProjectSettings,
    read_settings,
    resolved_path,
    stored_path,
    validated,
)
from napari_fossiledit.project.source import LABELS
from napari_fossiledit.stacks import SectionStack, open_stack
from napari_fossiledit.stacks.blank import KIND as BLANK
from napari_fossiledit.stacks.section import StackRecord

SETTINGS_FILE = "project.json"
_MODEL_FILE = "model.json"


class Project:
    """One stack, its tracings, models, predictions and corrections.

    ``project.json`` alone makes a folder a project; all else is made when it is first needed.
    Make one with `create` or `open`.

    Attributes
    ----------
    path
        The folder.
    settings
        What ``project.json`` says.
    read_only
        Whether changes are refused.
    """

    def __init__(self, path: Path, settings: ProjectSettings, *, read_only: bool) -> None:
        self.path, self.settings, self.read_only = path, settings, read_only

    @classmethod
    def create(cls, path: Path, stack: SectionStack, params: NewParams) -> Project:
        """Make a project of an opened stack.

        Raises
        ------
        FossilError
            Where the folder is not empty or cannot be written.
        """
        if (path / SETTINGS_FILE).exists():
            raise FossilError(
                f"{path} is a project already",
                advice="Choose another name, or open it with 'fossiledit open'.",
            )
        require_empty(path, "a project")
        with explained(path, "Making"):
            path.mkdir(parents=True, exist_ok=True)
        record = _stored(stack.record(), path)
        content = {
            "stack": record.model_dump(),
            "pixel_size_um": params.pixel_size,
            "slice_spacing_um": params.slice_spacing,
            "z_direction": params.z_direction,
            "classes": params.classes,
        }
        settings = validated(path / SETTINGS_FILE, content)
        write_json(path / SETTINGS_FILE, settings.model_dump(mode="json"))
        return cls(path, settings, read_only=False)

    @classmethod
    def open(cls, path: Path, *, read_only: bool | None = None) -> Project:
        """Open a project.

        Parameters
        ----------
        read_only
            None: where the folder cannot be written.

        Raises
        ------
        FossilError
            Where the folder is no project, is damaged, or was made by a newer version.
        """
        settings = read_settings(path / SETTINGS_FILE)
        if read_only is None:
            read_only = not os.access(path, os.W_OK)
        return cls(path, settings, read_only=read_only)

    def close(self) -> None:
        """Close the stack and the ledger; everything is on disk already."""
        for name in ("stack", "ledger"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()
        self.__dict__.pop("labels", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------- settings

    def update(self, **changes: Any) -> ProjectSettings:
        """Change settings and write ``project.json`` whole.

        Other windows may have changed it: what they wrote is kept where it is not changed here.
        """
        self.require_writable()
        file = self.path / SETTINGS_FILE
        self.settings = validated(file, read_settings(file).model_dump() | changes)
        write_json(file, self.settings.model_dump(mode="json"))
        return self.settings

    def require_writable(self) -> None:
        """Raise `FossilError` where the project is open for reading only."""
        require_writable(self.path, read_only=self.read_only)

    @property
    def geometry(self) -> StackGeometry:
        """Voxel size and direction of the stack."""
        return self.settings.geometry

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows and columns (z, y, x) of the stack."""
        z, y, x = self.settings.stack.shape[:3]
        return (z, y, x)

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Rows and columns (y, x) of a slice."""
        return self.shape[1:]

    @property
    def names(self) -> tuple[str, ...]:
        """One name a slice, in stack order."""
        return self.settings.stack.names

    # ----------------------------------------------------------------- stack

    @property
    def stack_path(self) -> Path:
        """Where the photographs are."""
        return resolved_path(self.settings.stack.path, self.path)

    @cached_property
    def stack(self) -> SectionStack:
        """The photographs, opened without reading any of them.

        Raises
        ------
        FossilError
            Where they are no longer there.
        """
        record = self.settings.stack.model_copy(update={"path": self.stack_path})
        if record.kind != BLANK and not record.path.exists():
            raise FossilError(
                f"The photographs of {self.path} have been moved or removed",
                expected=record.path,
                found="nothing there",
                advice="Put them back, or tell the new place with"
                f" 'fossiledit move {self.path} NEW_PLACE'.",
            )
        return open_stack(record.path, expected=record)

    def set_stack_path(self, path: Path) -> None:
        """Write where the photographs have been moved to.

        Raises
        ------
        FossilError
            Where those are not the photographs the project was made from.
        """
        self.require_writable()
        record = open_stack(path).record()
        for what in ("shape", "dtype", "names"):
            old, new = getattr(self.settings.stack, what), getattr(record, what)
            if old != new:
                raise FossilError(
                    f"{path} is not the stack of {self.path}: other {what}",
                    expected=_shortened(old),
                    found=_shortened(new),
                )
        self.update(stack=_stored(record, self.path).model_dump())
        self.__dict__.pop("stack", None)

    # ---------------------------------------------------- ledger, labels, ...

    @cached_property
    def ledger(self) -> Ledger:
        """Instances, traced areas and runs."""
        return Ledger(self.path / "ledger.sqlite", read_only=self.read_only)

    @cached_property
    def labels(self) -> LabelVolume:
        """Labels that are corrected by hand."""
        path = self.path / "labels.zarr"
        return LabelVolume(path, self.shape, self.ledger.journal, read_only=self.read_only)

    def instances(
        self, source: str, z: int, *, class_name: str | None = None, min_score: float = 0.0
    ) -> list[Instance]:
        """Return the instances of any source in slice `z`, highest score first.

        Those of the source ``"labels"`` take their geometry from ``labels.zarr``.
        """
        if source != LABELS:
            return self.ledger.instances(
                source, slices=[z], class_name=class_name, min_score=min_score
            )
        items = labelled_instances(self.ledger, self.labels, z, self.settings.classes[0])
        chosen = (i for i in items if class_name in (None, i.class_name) and i.score >= min_score)
        return sorted(chosen, key=lambda i: -i.score)

    @property
    def reports(self) -> Path:
        """Folder for what evaluating and probing wrote; made where it is missing."""
        folder = self.path / "reports"
        if not self.read_only:
            with explained(folder, "Making"):
                folder.mkdir(exist_ok=True)
        return folder

    @property
    def edits(self) -> EditStore:
        """Edits of models, with their history."""
        return EditStore(self.path, read_only=self.read_only)

    def models(self) -> list[str]:
        """Return the names of the models of the project."""
        files = (self.path / "models").glob(f"*/{_MODEL_FILE}")
        return sorted(file.parent.name for file in files)

    def model_folder(self, name: str) -> Path:
        """Return the folder of a model, whether it is there or not.

        Raises
        ------
        FossilError
            Where the name is no plain name.
        """
        folder = inside(self.path / "models", name)
        if folder.parent != (self.path / "models").resolve():
            raise FossilError(
                "The name of a model cannot be used", expected="a plain name", found=name
            )
        return folder


def _stored(record: StackRecord, project: Path) -> StackRecord:
    return record.model_copy(update={"path": stored_path(record.path, project)})


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
