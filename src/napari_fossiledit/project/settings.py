"""The content of ``project.json``, checked before it is used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json
from napari_fossiledit.geometry import (
    LARGEST_UM,
    SMALLEST_UM,
    StackGeometry,
    ZDirection,
    check_positions,
)
from napari_fossiledit.params.reconstruct import OrientParams
from napari_fossiledit.stacks.section import StackRecord

SCHEMA_VERSION = 1
# Far beyond any rock; larger figures are a damaged file.
_LARGEST = 10_000_000
_KINDS_OF_NAMES = "one plain file name a slice"

Um = Annotated[float, Field(ge=SMALLEST_UM, le=LARGEST_UM, allow_inf_nan=False)]
Colour = Annotated[int, Field(ge=0, le=65535)]
ClassName = Annotated[str, Field(min_length=1, max_length=100)]
SliceIndex = Annotated[int, Field(ge=0, lt=_LARGEST)]


class ProjectSettings(BaseModel):
    """The content of ``project.json``.

    Attributes
    ----------
    schema_version
        Layout of the project folder.
    stack
        Where the photographs are and what they look like; its path as it stands in the file
        (relative to the project folder where the photographs lie beside or in it).
    pixel_size_um, slice_spacing_um, z_direction, z_positions_um
        See `StackGeometry`.
    classes
        Classes that models of this project learn.
    orientation
        How the block was cut and its bedding lay, None where nobody said.
    mud_colour
        Colour of the red mud in the stack's own values, None where nobody picked it.
    pinned_slices
        Held-out annotated slices that only judge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    stack: StackRecord
    pixel_size_um: Um
    slice_spacing_um: Um
    z_direction: ZDirection = ZDirection.INTO
    z_positions_um: tuple[float, ...] | None = None
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=1000)
    orientation: OrientParams | None = None
    mud_colour: tuple[Colour, Colour, Colour] | None = None
    pinned_slices: tuple[SliceIndex, ...] = ()

    @field_validator("stack")
    @classmethod
    def _sound(cls, record: StackRecord) -> StackRecord:
        spatial = 4 if record.rgb else 3
        if len(record.shape) != spatial or record.shape[3:] not in ((), (3,)):
            raise ValueError(f"the stack's shape has {spatial} axes, found {record.shape}")
        if not all(0 < n < _LARGEST for n in record.shape):
            raise ValueError(f"no stack has the shape {record.shape}")
        if len(record.names) != record.shape[0] or not all(map(_is_plain, record.names)):
            raise ValueError(f"the stack has {_KINDS_OF_NAMES}")
        if record.dtype not in ("uint8", "uint16"):
            raise ValueError(f"a stack is uint8 or uint16, found {record.dtype!r}")
        if "\0" in str(record.path) or not record.path.name:
            raise ValueError("the path of the stack is no path")
        return record

    @model_validator(mode="after")
    def _one_position_a_slice(self) -> Self:
        if self.z_positions_um is not None:
            try:
                check_positions(self.z_positions_um, self.stack.shape[0], "the project")
            except FossilError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def geometry(self) -> StackGeometry:
        """Voxel size, positions of the slices, and direction."""
        return StackGeometry(
            self.pixel_size_um, self.slice_spacing_um, self.z_direction, self.z_positions_um
        )


def _is_plain(name: str) -> bool:
    """Return True where a slice's name stays in the folder of the stack."""
    path = Path(name)
    return bool(name) and "\0" not in name and not path.is_absolute() and ".." not in path.parts


def read_settings(path: Path) -> ProjectSettings:
    """Read and check ``project.json``.

    Raises
    ------
    FossilError
        Where it is missing, no project, of a newer version, or damaged.
    """
    with explained(path, "Reading"):
        exists = path.is_file()
    if not exists:
        raise FossilError(
            f"{path.parent} is no project",
            expected=f"a folder with {path.name}",
            advice="If it was moved or renamed, open it where it is now; else make a new project.",
        )
    content = read_json(path, "the settings of a project")
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise FossilError(
            f"{path} cannot be read", expected="the settings of a project", found=_short(content)
        )
    if version > SCHEMA_VERSION:
        raise FossilError(
            f"{path} was made by a newer version of napari-fossiledit",
            expected=f"schema version up to {SCHEMA_VERSION}",
            found=_short(version),
            advice="Update napari-fossiledit.",
        )
    return validated(path, content)


def validated(path: Path, content: dict[str, Any]) -> ProjectSettings:
    """Return settings, or raise an error that names the wrong value of `path`."""
    try:
        return ProjectSettings.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise FossilError(
            f"{path} cannot be used: the value of {where}",
            expected=first["msg"],
            found=_short(first["input"]),
        ) from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def stored_path(stack: Path, project: Path) -> Path:
    """Return the path of the stack as ``project.json`` keeps it.

    Relative where the stack lies beside the project or in it, so that both move together.
    """
    stack, project = stack.resolve(), project.resolve()
    if stack.is_relative_to(project.parent):
        return Path(os.path.relpath(stack, project))
    return stack


def resolved_path(stored: Path, project: Path) -> Path:
    """Return the path of the stack (the inverse of `stored_path`).

    Raises
    ------
    FossilError
        Where a relative path climbs out of the folder that holds the project.
    """
    if stored.is_absolute():
        return stored
    home = project.resolve().parent
    path = (project.resolve() / stored).resolve()
    if not path.is_relative_to(home):
        raise FossilError(
            f"{project / 'project.json'} names a stack outside of {home}",
            expected="an absolute path, or one beside the project",
            found=repr(str(stored)),
        )
    return path
