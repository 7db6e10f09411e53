"""The record of one edit: the content of ``edit.json``."""

from __future__ import annotations

import math
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import is_plain, read_json
from napari_fossiledit.params.base import PlainName
from napari_fossiledit.project.database import now

FORMAT = 1
STRONGEST = 10.0
"""Largest strength of an edit, either way; 1 is the edit as it was solved."""
UNJUDGED = "unjudged"
"""Key among the figures of an edit that was saved and is yet to be judged."""
# Figures come from the program itself; anything deeper is a damaged or hostile file.
_DEEPEST = 20
_SHOWN = 80


class EditState(StrEnum):
    """The decision about an edit."""

    PROPOSED = "proposed"
    KEPT = "kept"
    ROLLED_BACK = "rolled_back"


def _checked_parent(text: str) -> str:
    """Check a parent: a plain name, or a path that is the same wherever the program runs."""
    if not (is_plain(text) or ("\0" not in text and Path(text).is_absolute())):
        raise ValueError("a plain name or an absolute path")
    return text


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Return figures fit for strict JSON: what is not a number becomes None."""
    if depth > _DEEPEST:
        raise ValueError(f"values nested at most {_DEEPEST} deep")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _jsonable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v, depth + 1) for v in value]
    return value


Figures = Annotated[dict[str, Any], BeforeValidator(_jsonable)]
Digest = Annotated[str, Field(min_length=1, max_length=128)]
Strength = Annotated[float, Field(ge=-STRONGEST, le=STRONGEST, allow_inf_nan=False)]


class EditRecord(BaseModel):
    """All of an edit but its weights.

    Attributes
    ----------
    name
        Of the edit; models and edits of a project share their names.
    parent
        Name of the model or edit it is to be applied to, or the absolute path of a model folder.
    parent_hash, result_hash
        Of the parent, and of the parent with the edit at `strength`.
    model
        The model at the root, as `parent`.
    params
        How it was made: perturbation, solver, slices.
    created
        ISO 8601 in UTC.
    strength
        Share of the edit that is applied.
    score
        Score threshold that was chosen for the result.
    state
        What was decided.
    losses, drift, preservation, curves
        Of the solver, by layer: loss before and after, |dW|/|W|, change of the output on slices
        that were to be preserved before and after, [step, loss] pairs.
    judged
        Figures before and after, of `strength` where the figures do not name another one.
    versions
        Of the program and its libraries.
    note
        In words.
    delta_hash
        SHA-256 of the weights' file; the store fills it in.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    name: PlainName
    parent: Annotated[str, AfterValidator(_checked_parent)]
    parent_hash: Digest
    result_hash: Digest
    model: Annotated[str, AfterValidator(_checked_parent)]
    params: Figures = Field(default_factory=dict)
    created: str = Field(default_factory=now)
    strength: Strength = 1.0
    score: float = Field(0.0, ge=0, le=1)
    state: EditState = EditState.PROPOSED
    losses: Figures = Field(default_factory=dict)
    drift: Figures = Field(default_factory=dict)
    preservation: Figures = Field(default_factory=dict)
    curves: Figures = Field(default_factory=dict)
    judged: Figures = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    note: str = ""
    delta_hash: str = ""


def read_record(file: Path) -> EditRecord:
    """Read and check ``edit.json``.

    Raises
    ------
    FossilError
        Where it is damaged, of a newer version, or the record of an edit of another name.
    """
    content = read_json(file, "the record of an edit")
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise FossilError(
            f"{file} was written by a newer version",
            expected=f"format {FORMAT} or older",
            found=f"format {version}",
            advice="Update napari-fossiledit.",
        )
    record = validated(file, content)
    if record.name != file.parent.name:
        raise FossilError(
            f"{file} is the record of another edit",
            expected=file.parent.name,
            found=record.name,
            advice="Give the folder the name of the edit back.",
        )
    return record


def validated(file: Path, content: Any) -> EditRecord:
    """Return a record, or raise an error that names the wrong value of `file`."""
    try:
        return EditRecord.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise FossilError(
            f"{file} cannot be used: {where}",
            expected=first["msg"],
            found=repr(first["input"])[:_SHOWN],
            advice="Take another copy of it, or make the edit again.",
        ) from error
