"""The project folder, ``NAME.fossil/``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import (
    explained,
    inside,
    plain_name,
    remove_leftovers,
    require_empty,
    require_writable,
    write_json,
)
from napari_fossiledit.geometry import StackGeometry
from napari_fossiledit.masks import Instance
from napari_fossiledit.masks.probability import MASK_CUT
from napari_fossiledit.params.stack import NewParams
from napari_fossiledit.project.contents import ORIGINAL, Contents
from napari_fossiledit.project.edits import EditStore
from napari_fossiledit.project.ledger import Ledger
from napari_fossiledit.project.old_labels import OLD_LABELS, take_over_labels
from napari_fossiledit.project.settings import (
    ProjectSettings,
    read_settings,
    resolved_path,
    stored_path,
    validated,
)
from napari_fossiledit.stacks import SectionStack, open_stack
from napari_fossiledit.stacks.blank import KIND as BLANK
from napari_fossiledit.stacks.placed import PlacedStack
from napari_fossiledit.stacks.section import StackRecord

SETTINGS_FILE = "project.json"
IMAGES = "images.zarr"
_MODEL_FILE = "model.json"
# First names below the folder of what a user's own files must not take the place of.
_PARTS = [
    (name,) for name in (SETTINGS_FILE, "ledger.sqlite", IMAGES, "models", "edits", "morphospace")
]


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
    notes
        What the user should know of how it was opened.
    """

    def __init__(self, path: Path, settings: ProjectSettings, *, read_only: bool) -> None:
        self.path, self.settings, self.read_only = path, settings, read_only
        self.notes: tuple[str, ...] = ()

    @classmethod
    def create(cls, path: Path, stack: SectionStack, params: NewParams) -> Project:
        """Make a project of an opened stack.

        Raises
        ------
        FossilError
            Where the folder holds anything but this very project without any content, such as a
            run leaves that was killed at its end; or where it cannot be written.
        """
        file = path / SETTINGS_FILE
        with explained(path, "Making"):
            begun = file.exists()
        if not begun:
            require_empty(path, "a project")
        record = _stored(stack.record(), path)
        content = {
            "stack": record.model_dump(),
            "pixel_size_um": params.pixel_size,
            "slice_spacing_um": params.slice_spacing,
            "z_direction": params.z_direction,
            "classes": params.classes,
        }
        settings = validated(file, content)
        if begun and (read_settings(file) != settings or not _is_fresh(path)):
            raise FossilError(
                f"{path} is a project already",
                expected="a new folder, or a project of the same stack and parameters that holds"
                " nothing yet",
                advice="Choose another name, or open it with 'fossiledit open'.",
            )
        write_json(file, settings.model_dump(mode="json"))
        return cls(path, settings, read_only=False)

    @classmethod
    def open(cls, path: Path, *, read_only: bool | None = None) -> Project:
        """Open a project; one of an earlier version is brought to this one.

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
        if not read_only:
            for folder in (path, path / "models", *(path / "models").glob("*/"), path / "edits"):
                remove_leftovers(folder)
        project = cls(path, settings, read_only=read_only)
        if project.part(OLD_LABELS).exists():
            project.notes = project._take_over_labels()
        return project

    def _take_over_labels(self) -> tuple[str, ...]:
        if self.read_only:
            return (
                f"{OLD_LABELS} of an earlier version is not shown: it is taken over when the"
                " project is opened to be changed.",
            )
        try:
            return take_over_labels(self.path, self.ledger, self.shape, self.settings.classes[0])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the stack and the ledger; everything is on disk already."""
        for name in ("original", "stack", "photos", "ledger"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()
        self.__dict__.pop("contents", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -------------------------------------------------------------- settings

    def require_not_a_part(self, file: Path) -> None:
        """Check that a file that is about to be written for the user is none of the project's own.

        Raises
        ------
        FossilError
            Where it is.
        """
        place, root = file.resolve(), self.path.resolve()
        if place.is_relative_to(root) and place.relative_to(root).parts[:1] in _PARTS:
            raise FossilError(
                f"{file} is a part of the project",
                expected="a name outside of it",
                advice="Choose another one; nothing was changed.",
            )

    def part(self, name: str) -> Path:
        """Return the path of a file or folder of the project, whether it is there or not.

        Raises
        ------
        FossilError
            Where it is a link that leads out of the project.
        """
        inside(self.path, name)
        return self.path / name

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
        """The slices as they lie over each other, see `photos`."""
        if self.settings.stack.kind == BLANK:
            return self.photos
        return PlacedStack(self.photos, self.ledger.alignment)

    @cached_property
    def photos(self) -> SectionStack:
        """The photographs as they were taken, opened without reading any of them.

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

    @property
    def photographs_found(self) -> bool:
        """Return True where the slices can be read: nothing was moved or removed."""
        return self.settings.stack.kind == BLANK or self.stack_path.exists()

    def set_stack_path(self, path: Path) -> None:
        """Write where the photographs have been moved to.

        Raises
        ------
        FossilError
            Where those are not the photographs the project was made from.
        """
        self.require_writable()
        record = open_stack(path).record()
        had = self.settings.stack.names
        grown = len(record.names) > len(had) and record.names[: len(had)] == had
        for what in ("shape", "dtype", "names"):
            old, new = getattr(self.settings.stack, what), getattr(record, what)
            if old != new:
                raise FossilError(
                    f"{path} is not the stack of {self.path}: other {what}",
                    expected=_shortened(old),
                    found=_shortened(new),
                    advice=f"Take photographs that were added in with 'fossiledit stack append"
                    f" {self.path} --stack {path}'."
                    if grown
                    else "",
                )
        self.set_stack(record)

    def set_stack(self, record: StackRecord, **changes: Any) -> None:
        """Write which photographs the project is of, and other settings; no check is made."""
        self.update(stack=_stored(record, self.path).model_dump(), **changes)
        for name in ("stack", "photos", "contents", "original"):
            self.__dict__.pop(name, None)

    @property
    def photographs(self) -> StackRecord:
        """The photographs, also where the project reads a converted copy of them."""
        record = self.settings.stack
        if self.stack_path == (self.path / IMAGES).resolve():
            noted = self.ledger.get_meta(ORIGINAL)
            record = record if noted is None else StackRecord.model_validate(noted)
        return record.model_copy(update={"path": resolved_path(record.path, self.path)})

    @cached_property
    def contents(self) -> Contents:
        """The photographs as they are now, and which results were made from others."""
        return Contents(
            self.ledger.contents, self.photos, read_only=self.read_only, shown=self.stack
        )

    @cached_property
    def original(self) -> Contents | None:
        """The photographs that the copy which the project reads was converted from.

        None where the project reads the photographs themselves, or they are gone.
        """
        record = self.photographs
        if record.path == self.stack_path or not record.path.exists():
            return None
        stack = open_stack(record.path, expected=record)
        return Contents(self.ledger.contents, stack, read_only=self.read_only, place=ORIGINAL)

    def use_copy(self) -> None:
        """Read the slices from ``images.zarr`` from now on, a copy of the photographs."""
        before, record = self.contents, self.settings.stack
        # Another run may have done it.
        copied = self.stack_path == (self.path / IMAGES).resolve()
        if not copied:
            # First, so that a killed process never leaves a copy of nobody knows what.
            self.ledger.set_meta(ORIGINAL, record.model_dump(mode="json"))
        self.set_stack_path(self.path / IMAGES)
        if not copied:
            self.ledger.contents.note(ORIGINAL, before.known)
            self.contents.take_over(before)

    # ---------------------------------------------------- ledger, labels, ...

    @cached_property
    def ledger(self) -> Ledger:
        """Instances, traced areas and runs."""
        return Ledger(self.part("ledger.sqlite"), read_only=self.read_only, shape=self.slice_shape)

    def instances(
        self,
        source: str,
        z: int,
        *,
        class_name: str | None = None,
        min_score: float = 0.0,
        mask_cut: float = MASK_CUT,
    ) -> list[Instance]:
        """Return the instances of a source in slice `z`, highest score first.

        See `Ledger.instances`.
        """
        return self.ledger.instances(
            source,
            slices=[z],
            class_name=class_name,
            min_score=min_score,
            mask_cut=mask_cut,
        )

    @property
    def reports(self) -> Path:
        """Folder for what evaluating and probing wrote; made where it is missing."""
        folder = self.part("reports")
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
        files = self.part("models").glob(f"*/{_MODEL_FILE}")
        # Hidden ones are being written, or were left by a process that was killed.
        return sorted(file.parent.name for file in files if not file.parent.name.startswith("."))

    def model_folder(self, name: str) -> Path:
        """Return the folder of a model, whether it is there or not.

        Raises
        ------
        FossilError
            Where the name is no plain name.
        """
        models = self.part("models")
        folder = inside(models, name)
        if folder.parent != models.resolve() or not folder.exists():
            plain_name(name, "a model")
        return folder

    @contextmanager
    def training(self, name: str) -> Iterator[Path]:
        """Yield the folder of a model that nobody else trains meanwhile.

        The operating system lets go of the lock when the process ends, however it ends.

        Raises
        ------
        FossilError
            Where another process trains a model of that name.
        """
        folder = self.model_folder(name)
        with self._locked(
            folder.with_name(f".{name}.lock"),
            f"The model {name!r} of {self.path} is being trained by another process",
            advice="Wait for it to end, or choose another name.",
        ):
            yield folder

    def converting(self) -> AbstractContextManager[None]:
        """Keep other processes from writing the converted copy meanwhile.

        Raises
        ------
        FossilError
            Where another process does so.
        """
        return self._locked(
            self.path / f".{IMAGES}.lock",
            f"The photographs of {self.path} are being converted by another process",
            advice="Wait for it to end, or stop it: what it has finished is kept.",
        )

    @contextmanager
    def _locked(self, file: Path, taken: str, advice: str) -> Iterator[None]:
        with explained(file, "Locking"):
            file.parent.mkdir(exist_ok=True)
            lock = FileLock(file, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise FossilError(taken, advice=advice) from None
        try:
            yield
        finally:
            # The file stays: removing it could take the lock of a process that is just opening it.
            lock.release()


def _is_fresh(path: Path) -> bool:
    """Return True where a project holds its settings, and at most a ledger without content."""
    names = {p.name for p in path.iterdir()}
    if names - {
        SETTINGS_FILE,
        *(f"ledger.sqlite{end}" for end in ("", "-wal", "-shm", "-journal")),
    }:
        return False
    ledger = Ledger(path / "ledger.sqlite", read_only=True)
    try:
        return not (ledger.sources() or ledger.traced() or ledger.runs())
    finally:
        ledger.close()


def _stored(record: StackRecord, project: Path) -> StackRecord:
    return record.model_copy(update={"path": stored_path(record.path, project)})


def _shortened(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."
