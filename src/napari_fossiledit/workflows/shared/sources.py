"""Find sources of instances by the name that a user gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.reconstruct import LinkParams, PictureParams
from napari_fossiledit.params.segment import EvaluateParams
from napari_fossiledit.project import LABELS, Project
from napari_fossiledit.workflows.shared.foreign_models import checkpoint_name, is_checkpoint


def find_source(project: Project, text: str) -> str:
    """Return the source that a user means: its name, or the name or a file of a model.

    Raises
    ------
    FossilError
        Where no source, or more than one, fits.
    """
    ledger = project.ledger
    names = [s.name for s in ledger.sources()]
    if text in names:
        return text
    model, path = text, Path(text)
    if text and path.exists() and not ledger.predictions(text):
        # A checkpoint of another program is a model by itself; other files are parts of a folder.
        folder = path if path.is_dir() else path.parent
        model = checkpoint_name(path) if is_checkpoint(path) else folder.resolve().name
    candidates = [s.name for s in ledger.predictions(model)] if model else []
    if ledger.latest(model) in candidates:
        return ledger.latest(model)
    if len(candidates) == 1:
        return candidates[0]
    raise FossilError(
        f"{project.path} has no instances of {text!r}"
        if not candidates
        else f"{project.path} has several predictions of {text!r}",
        expected=f"one of {', '.join(candidates or names) or 'none yet'}",
        advice="Import annotations or predict first." if not names else "",
    )


def shown_sources(project: Project) -> list[str]:
    """List the sources that a user may look at, predictions of models first."""
    chosen = [s for s in project.ledger.sources() if s.name != LABELS]
    return [s.name for s in sorted(chosen, key=lambda s: (not s.source.is_prediction, s.name))]


def predictions_on(project: Project, model: str, z: int, shown: str = "") -> str:
    """Return the predictions of a model on slice `z`: those on show, else the latest.

    Parameters
    ----------
    shown
        Source that the user looks at, whoever made it.

    Raises
    ------
    FossilError
        Where the model has not predicted the slice.
    """
    ledger = project.ledger
    names = [s.name for s in ledger.predictions(model) if z in ledger.done(s.name)]
    if not names:
        raise FossilError(
            f"Slice {z} has not been predicted by {model} yet",
            advice='Predict it in the dock "Segment" first.',
        )
    return next((name for name in (shown, ledger.latest(model)) if name in names), names[-1])


P = TypeVar("P", LinkParams, EvaluateParams, PictureParams)


def with_class(project: Project, params: P) -> P:
    """Return parameters with the first class of the project where none was named."""
    if params.class_name:
        return params
    return params.model_copy(update={"class_name": project.settings.classes[0]})


def without_orphans(instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances without cavities whose body is not among them."""
    bodies = {i.id for i in instances if i.part is Part.BODY}
    return [i for i in instances if i.parent is None or i.parent in bodies]
