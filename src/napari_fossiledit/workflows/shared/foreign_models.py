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
    from napari_fossiledit.models.detectron2.file import Checkpoint
    from napari_fossiledit.models.detectron2.read import Imported

_LISTED = 5
_SAY = "Say which is which:"
# What detectron2 calls the files of every model.
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
    """Tell whether a path is a file of another program, and no part of a model folder."""
    return path.suffix in CHECKPOINTS and path.is_file()


def checkpoint_name(file: Path) -> str:
    """Name what a checkpoint is called that is used where it lies.

    No model of a project has such a name, so that their predictions stay apart.

    Examples
    --------
    >>> checkpoint_name(Path("my run/model_final.pth"))
    'my-run.pth'
    """
    return proposed_name(file) + file.suffix


@dataclass(frozen=True)
class Foreign:
    """A model that was read, and what had to be assumed of it, in sentences for the user."""

    model: Imported
    notes: tuple[str, ...]


def read_foreign(
    file: Path,
    known: Sequence[str],
    *,
    classes: str = "",
    config: str = "",
    say: str = _SAY,
) -> Foreign:
    """Read a checkpoint of detectron2; torch is imported here and not before.

    Parameters
    ----------
    known
        Classes of the project; empty: there is none, and any name will do.
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
    from napari_fossiledit.models.detectron2.read import import_checkpoint

    wanted = parse_classes(classes)
    checkpoint = read_checkpoint(file)
    place = Path(config).expanduser() if config else None
    told = () if wanted else _assumed(checkpoint, known, say)
    if told:
        wanted = tuple(known)
    model = import_checkpoint(checkpoint, config=place, classes=wanted)
    _require_known(model.spec.classes, known, checkpoint.where, say)
    return Foreign(model, (*model.notes, *told))


def _assumed(checkpoint: Checkpoint, known: Sequence[str], say: str) -> tuple[str, ...]:
    """Say that the classes are taken for those of the project, where there are as many.

    Nothing is assumed where the file names them.
    """
    from napari_fossiledit.models.detectron2.read import known_classes

    count, named = known_classes(checkpoint)
    if named or not known:
        return ()
    if count != len(known):
        raise _other_classes(checkpoint.where, f"{count} classes without names", count, known, say)
    pairs = ", ".join(f"{n}={name}" for n, name in enumerate(known))
    return (f"The file does not name its classes; they are taken for the project's: {pairs}.",)


def _require_known(found: Sequence[str], known: Sequence[str], where: str, say: str) -> None:
    strange = [name for name in found if name not in (LEFT_OUT, *known)]
    if known and strange:
        raise _other_classes(where, ", ".join(strange[:_LISTED]), len(found), known, say)


def _other_classes(
    where: str, found: str, count: int, known: Sequence[str], say: str
) -> FossilError:
    return FossilError(
        f"{where} finds other classes than the project has",
        expected=f"{len(known)} class{'es' if len(known) > 1 else ''}: {', '.join(known)}",
        found=found,
        advice=f"{say} {_examples(count, known)}, counted from 0 in the order of the model. What is"
        " not named is left out.",
    )


def _examples(count: int, known: Sequence[str]) -> str:
    """Ways to say which class is which, as they are typed."""
    numbers = ",".join(f"{n}={name}" for n, name in enumerate(known[:count]))
    if count > _LISTED:
        return f'--classes "{numbers}"'
    names = [*known[:count], *["-"] * (count - len(known))]
    return f'--classes "{",".join(names)}" or --classes "{numbers}"'
