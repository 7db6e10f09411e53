"""Where specimens come from: a folder of pictures, or the instances of a project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.morphospace.crops import EDGE, Picture, PictureFolder, cut_out, in_8_bit
from napari_fossiledit.morphospace.embedding import Item, content_of
from napari_fossiledit.params.morphospace import Filling, ItemParams, NamedBy
from napari_fossiledit.params.reconstruct import BEST_KNOWN
from napari_fossiledit.perturb.mud import ROCK_CLASS
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.project.project import SETTINGS_FILE
from napari_fossiledit.workflows.shared.sources import choose, known_class
from napari_fossiledit.workflows.shared.stack_values import StackValues
from napari_fossiledit.workflows.shared.stale import stale_notes


class Specimens(Protocol):
    """Pictures of specimens and what they are; `PictureFolder` is one, too.

    Attributes
    ----------
    items
        In the order of `pictures`.
    notes
        What was assumed or left out, in sentences.
    """

    @property
    def items(self) -> tuple[Item, ...]: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def pictures(self, edge: int = EDGE) -> Iterator[Picture]:
        """Read the pictures one after the other: (edge, edge, 3)."""
        ...


@dataclass(frozen=True)
class Sections:
    """Instances of a project, cut out of its slices; see `Specimens`."""

    project: Project
    filling: Filling
    instances: tuple[Instance, ...]
    items: tuple[Item, ...]
    notes: tuple[str, ...]

    def pictures(self, edge: int = EDGE) -> Iterator[Picture]:
        """Read each slice once, and cut its instances out."""
        limits = StackValues(self.project).span
        shown, image = -1, None
        for instance in self.instances:
            if instance.slice != shown:
                shown = instance.slice
                image = in_8_bit(self.project.stack.read(shown), limits)
            own = self.filling is Filling.OWN
            yield cut_out(image, instance.mask, own_mean=own, edge=edge)  # type: ignore[arg-type]  # read above


def is_project(path: Path) -> bool:
    """Return whether a folder is a project, rather than a folder of pictures."""
    return (path / SETTINGS_FILE).is_file()


@contextmanager
def opened(path: Path, params: ItemParams) -> Iterator[Specimens]:
    """Open the specimens of a project or of a folder of pictures.

    Raises
    ------
    FossilError
        Where there are none.
    """
    with ExitStack() as stack:
        if not is_project(path):
            yield PictureFolder.open(path)
            return
        project = stack.enter_context(Project.open(path))
        yield _sections(project, params)


def _sections(project: Project, params: ItemParams) -> Sections:
    choice = choose(project, params.instances or BEST_KNOWN)
    class_name = known_class(project, params.class_name) or None
    kept: list[Instance] = []
    small = unsure = predicted = 0
    for z in choice.slices:
        source = choice.source_of(z)
        for found in project.instances(source, z, class_name=class_name, min_score=params.score):
            if found.part is not Part.BODY or found.class_name == ROCK_CLASS:
                continue
            y0, x0, y1, x1 = found.mask.box
            if min(y1 - y0, x1 - x0) < params.smallest:
                small += 1
            elif found.unsure:
                unsure += 1
            else:
                kept.append(found)
                predicted += source != ANNOTATIONS
    if not kept:
        raise FossilError(
            f"{project.path} has no specimens to look at",
            expected=f"instances at least {params.smallest} pixels across, of a score of"
            f" {params.score} or more",
            found=f"{small} smaller ones" if small else "none",
            advice="Predict or import annotations first, or lower --score or --smallest.",
        )
    items = tuple(_item(i, params.named_by) for i in kept)
    notes = [*stale_notes(project, choice.parts)]
    if small:
        notes.append(f"Left out {small} instances of less than {params.smallest} pixels across.")
    if unsure:
        notes.append(f"Left out {unsure} instances that are marked as unsure.")
    if predicted and params.named_by is NamedBy.CLASS:
        notes.append(
            f"{predicted} of {len(kept)} are predictions: their class is what a model said, and"
            " figures tell how well that is met, not the truth."
        )
    if loose := sum(i.specimen is None for i in items):
        which = "No specimen is linked yet" if loose == len(items) else f"{loose} are not linked"
        notes.append(
            f"{which}: each section counts as a specimen by itself, and sections of one may be"
            " trained and tested on. Link specimens first."
        )
    return Sections(project, params.filling, tuple(kept), items, tuple(notes))


def _item(found: Instance, named_by: NamedBy) -> Item:
    name = found.texture or None if named_by is NamedBy.TEXTURE else found.class_name
    key = f"{found.slice}/{found.id}"
    # Numbers of specimens begin anew in each class.
    group = key if found.specimen is None else f"{found.class_name} {found.specimen}"
    return Item(key, group, name, found.slice, found.id, found.specimen, content_of(found.mask))
