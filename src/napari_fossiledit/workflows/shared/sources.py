"""Find instances by the name a user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.pictures import PictureParams
from napari_fossiledit.params.reconstruct import LinkParams
from napari_fossiledit.params.segment import EvaluateParams
from napari_fossiledit.project import Project
from napari_fossiledit.workflows.shared.foreign_models import checkpoint_name, is_checkpoint


def find_source(project: Project, text: str) -> str:
    """Source of the ledger that a user means: its name, or the name or a file of a model.

    Raises
    ------
    FossilError
        Where no source, or more than one, is meant.
    """
    names = [s.name for s in project.ledger.sources()]
    if text in names:
        return text
    model = text if _predicted(text, names) else _model_of_file(text)
    meant = _predicted(model, names)
    latest = project.ledger.get_meta(f"latest:{model}")
    if latest in meant:
        return str(latest)
    if len(meant) == 1:
        return meant[0]
    raise FossilError(
        f"{project.path} has no instances of {text!r}"
        if not meant
        else f"{project.path} has several predictions of {text!r}",
        expected=f"one of {', '.join(meant or names) or 'none yet'}",
        advice="Import annotations or predict first." if not names else "",
    )


def _predicted(model: str, names: Sequence[str]) -> list[str]:
    """Find the sources that hold predictions of a model."""
    return [name for name in names if model and name.startswith(f"model:{model}:")]


def _model_of_file(text: str) -> str:
    """Name of the model in a folder, or of one of whose files `text` is the path.

    A checkpoint of another program is a model by itself.
    """
    path = Path(text)
    if not (text and path.exists()):
        return text
    if is_checkpoint(path):
        return checkpoint_name(path)
    return (path if path.is_dir() else path.parent).resolve().name


P = TypeVar("P", LinkParams, EvaluateParams, PictureParams)


def with_class(project: Project, params: P) -> P:
    """Fill in the first class of the project where none was named."""
    if params.class_name:
        return params
    return params.model_copy(update={"class_name": project.settings.classes[0]})


def without_orphans(instances: Sequence[Instance]) -> list[Instance]:
    """Leave out cavities whose body is not among the instances."""
    bodies = {i.id for i in instances if i.part is Part.BODY}
    return [i for i in instances if i.parent is None or i.parent in bodies]
