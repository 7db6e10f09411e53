"""What a training that went on from another model leaves beside the new one until it is decided."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import read_json, write_json
from napari_fossiledit.project import Project

TEACHING = "teaching.json"


class TeachingState(StrEnum):
    """What a user decided about a model that was taught."""

    UNDECIDED = "undecided"
    KEPT = "kept"
    ROLLED_BACK = "rolled back"


class Teaching(BaseModel):
    """The file beside a model that was taught.

    Attributes
    ----------
    parent, parent_hash
        Model or edit that the training went on from, as `find_model` takes it, and its digest.
    made_with
        Slices and settings of the training: another teaching with the same ones goes on with it.
    state
        Decision of the user.
    figures
        What was found on the pinned slices; None until it was judged, or nothing could judge.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str
    parent_hash: str
    made_with: dict[str, Any]
    state: TeachingState = TeachingState.UNDECIDED
    figures: dict[str, Any] | None = None


def read_teaching(project: Project, name: str) -> Teaching | None:
    """Return what is known of a model that was taught; None where it was trained otherwise.

    Raises
    ------
    FossilError
        Where the file is damaged.
    """
    path = project.model_folder(name) / TEACHING
    if not path.is_file():
        return None
    content = read_json(path, "the record of a taught model")
    try:
        return Teaching.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        raise FossilError(
            f"{path} is not the record of a taught model",
            expected="fields as this program writes them",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            advice="Take the file away to use the model like any other.",
        ) from error


def write_teaching(project: Project, name: str, teaching: Teaching) -> None:
    """Write what is known of a model that was taught, whole."""
    write_json(project.model_folder(name) / TEACHING, teaching.model_dump(mode="json"))
