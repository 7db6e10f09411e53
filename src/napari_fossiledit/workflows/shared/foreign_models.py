"""Checkpoints of other programs, with the classes of a project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2.classes import parse_classes
from napari_fossiledit.models.files.places import CHECKPOINTS
from napari_fossiledit.models.network.spec import LEFT_OUT

if TYPE_CHECKING:
    from napari_fossiledit.models.detectron2.read import Imported

# Most classes that a message lists.
_LISTED = 5
_SAY = "Say which is which:"
# The names that detectron2 gives the files of every model.
_USUAL_NAME = re.compile(r"model_(final|best|\d+)")
_WRONG_IN_NAMES = re.compile(r"[^\w.+-]+")
_LONGEST_NAME = 64


def proposed_name(file: Path) -> str:
    """Propose a name for the model of a file; one that all files have gives way to the folder's.

    Examples
    --------
    >>> proposed_name(Path("zoo/mask_rcnn_R_50.pkl")), proposed_name(Path("my run/model_final.pth"))
    ('mask_rcnn_R_50', 'my-run')
    """
    usual = _USUAL_NAME.fullmatch(file.stem) and file.absolute().parent.name
    name = _WRONG_IN_NAMES.sub("-", usual or file.stem).strip("-.")
    return name[:_LONGEST_NAME] or "imported"


def is_checkpoint(path: Path) -> bool:
    """Return True for a file of another program that is no part of a model folder."""
    return path.suffix in CHECKPOINTS and path.is_file()


def checkpoint_name(file: Path) -> str:
    """Return the name of a checkpoint that is used where it lies.

    No model of a project has such a name, so that their predictions stay apart.

    Examples
    --------
    >>> checkpoint_name(Path("my run/model_final.pth"))
    'my-run.pth'
    """
    return proposed_name(file) + file.suffix


@dataclass(frozen=True)
class Foreign:
    """A model that was read, and what was assumed of it, in sentences for the user."""

    model: Imported
    notes: tuple[str, ...]


def read_foreign(
    file: Path,
    project_classes: Sequence[str],
    *,
    classes: str = "",
    config: str = "",
    say: str = _SAY,
) -> Foreign:
    """Read a checkpoint of detectron2; torch is imported here and not before.

    Parameters
    ----------
    project_classes
        Classes that the model may find; empty: there is no project, and any name is accepted.
    classes, config
        As in `ImportModelParams`.
    say
        How a user says which class is which where they differ; the option ``--classes`` follows.

    Raises
    ------
    FossilError
        Where a file is missing, damaged or holds code, the network is none that can be run here,
        configuration and weights differ, or classes are not those of the project.
    """
    from napari_fossiledit.models.detectron2.file import read_checkpoint
    from napari_fossiledit.models.detectron2.read import import_checkpoint, known_classes

    named = parse_classes(classes)
    checkpoint = read_checkpoint(file)
    place = Path(config).expanduser() if config else None
    notes: tuple[str, ...] = ()
    if not named and project_classes:
        count, names = known_classes(checkpoint)
        if not names:
            if count != len(project_classes):
                text = f"{count} classes without names"
                raise _other_classes(checkpoint.where, text, count, project_classes, say)
            named = tuple(project_classes)
            pairs = ", ".join(f"{n}={name}" for n, name in enumerate(named))
            notes = (
                f"The file does not name its classes; they are taken for the project's: {pairs}.",
            )
    model = import_checkpoint(checkpoint, config=place, classes=named)
    others = [c for c in model.spec.classes if c not in (LEFT_OUT, *project_classes)]
    if project_classes and others:
        count, text = len(model.spec.classes), ", ".join(others[:_LISTED])
        raise _other_classes(checkpoint.where, text, count, project_classes, say)
    return Foreign(model, (*model.notes, *notes))


def _other_classes(
    where: str, text: str, count: int, classes: Sequence[str], say: str
) -> FossilError:
    """Return the error for a model of `count` classes, with examples of how to name them."""
    numbers = ",".join(f"{n}={name}" for n, name in enumerate(classes[:count]))
    examples = f'--classes "{numbers}"'
    if count <= _LISTED:
        names = [*classes[:count], *["-"] * (count - len(classes))]
        examples = f'--classes "{",".join(names)}" or {examples}'
    return FossilError(
        f"{where} finds other classes than the project has",
        expected=f"{len(classes)} class{'es' if len(classes) > 1 else ''}: {', '.join(classes)}",
        found=text,
        advice=f"{say} {examples}, counted from 0 in the order of the model. What is"
        " not named is left out.",
    )
