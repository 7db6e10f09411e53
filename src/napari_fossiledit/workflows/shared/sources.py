"""Find sources of instances by the name that a user gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from napari_fossiledit.errors import FossilError
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.reconstruct import BEST_KNOWN, LinkParams, PictureParams
from napari_fossiledit.params.review import TeachParams
from napari_fossiledit.params.segment import EvaluateParams
from napari_fossiledit.project import ANNOTATIONS, Project, Source
from napari_fossiledit.project.ledger import SourceInfo
from napari_fossiledit.workflows.shared.foreign_models import checkpoint_name, is_checkpoint
from napari_fossiledit.workflows.shared.model_refs import in_use, standing


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


def source_or_in_use(project: Project, text: str) -> str:
    """Return the source that a user means; empty: the predictions of the model in use.

    Raises
    ------
    FossilError
        Where no source, or more than one, fits.
    """
    return find_source(project, text) if text else predictions_in_use(project)


@dataclass(frozen=True)
class Choice:
    """Which source is asked in each slice.

    Attributes
    ----------
    name
        The source, or `BEST_KNOWN` where there are several.
    parts
        Slices that each source has looked at and is asked for, ascending; no slice is in two.
    """

    name: str
    parts: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, parts: Mapping[str, Iterable[int]]) -> Choice:
        """Return the choice of sources by their slices; those without a slice are left out."""
        listed = {name: tuple(sorted(slices)) for name, slices in parts.items()}
        kept = {name: slices for name, slices in listed.items() if slices}
        return cls(next(iter(kept)) if len(kept) == 1 else BEST_KNOWN, kept)

    @property
    def slices(self) -> list[int]:
        """All slices that were looked at, ascending."""
        return sorted(z for part in self.parts.values() for z in part)

    @property
    def gaps(self) -> list[int]:
        """Slices between the first and the last that nobody has looked at."""
        known = set(self.slices)
        return [z for z in range(min(known, default=0), max(known, default=0)) if z not in known]

    def source_of(self, z: int) -> str:
        """Return the source that is asked in slice `z`."""
        return next(name for name, slices in self.parts.items() if z in slices)

    def without(self, slices: Iterable[int]) -> Choice:
        """Return the choice as if some slices had not been looked at."""
        left = set(slices)
        parts = {n: tuple(z for z in part if z not in left) for n, part in self.parts.items()}
        return Choice(self.name, parts)

    def record(self) -> dict[str, str]:
        """Return the slices of each source as they are written for people."""
        return {name: format_slices(slices) for name, slices in self.parts.items()}


def choose(project: Project, text: str) -> Choice:
    """Return the source that a user means, or what is best known of each slice.

    Best known is the user's set where a slice has one, and elsewhere what the model in use found.

    Parameters
    ----------
    text
        `BEST_KNOWN`, or what `find_source` takes.

    Raises
    ------
    FossilError
        Where there is no such source, or it is not clear which model's predictions are meant.
    """
    done = project.ledger.done
    if text != BEST_KNOWN:
        source = find_source(project, text)
        return Choice(source, {source: tuple(sorted(looked_at(project, source)))})
    own = looked_at(project, ANNOTATIONS)
    elsewhere = [s.name for s in project.ledger.predictions() if done(s.name) - own]
    if not own and not elsewhere:
        raise FossilError(
            f"{project.path} has no instances", advice="Import annotations or predict first."
        )
    predicted = predictions_in_use(project) if elsewhere else ""
    return Choice.of({ANNOTATIONS: own, predicted: done(predicted) - own})


def looked_at(project: Project, source: str) -> set[int]:
    """Return the slices that a source tells of, also those where it tells that nothing is there.

    The user's set tells that of traced slices alone: in others somebody drew, and took it away.
    """
    ledger = project.ledger
    if source != ANNOTATIONS:
        return ledger.done(source)
    drawn = (z for part in Part for z, n in ledger.counts(source, part).items() if n)
    return {*drawn, *ledger.traced()}


def partly_known(project: Project, choice: Choice) -> Iterator[str]:
    """Yield where predictions are not asked although the user's set may lack something."""
    own = choice.parts.get(ANNOTATIONS, ()) if choice.name != ANNOTATIONS else ()
    traced = project.ledger.traced()
    if partly := [z for z in own if traced.get(z) is not None]:
        yield (
            f"Slices {format_slices(partly)} are annotated in part: outside that part predictions "
            "are not looked at."
        )
    if unmarked := [z for z in own if z not in traced]:
        yield (
            f"Slices {format_slices(unmarked)} hold annotations and are not marked as traced: "
            "predictions are not looked at there."
        )


def predictions_in_use(project: Project) -> str:
    """Return the predictions of the model in use, or of the only model that has predicted.

    Those of an edit that was rolled back or of a training that was not finished have to be named.
    Those of photographs that were replaced since are taken: what uses them says so.

    Raises
    ------
    FossilError
        Where there are none, or those of several models and none of them is in use.
    """
    predicted = {s.source.model for s in project.ledger.predictions()}
    off = {m: why for m in sorted(predicted) if (why := standing(project, m))}
    models = sorted(predicted - off.keys())
    chosen = [m for m in models if m == in_use(project)] or models
    if len(chosen) == 1:
        return find_source(project, chosen[0])
    if not models:
        named = "".join(f", but for those of {m} ({why})" for m, why in off.items())
        raise FossilError(
            f"{project.path} has no predictions{named}", advice="Predict first, or name a source."
        )
    raise FossilError(
        f"Several models have predicted in {project.path}, and none of them is in use",
        expected=f"the name of one: {', '.join(models)}",
        advice="Choose one of them as the source.",
    )


def shown_sources(project: Project) -> list[str]:
    """List the sources that a user may look at: predictions, the model in use first, then others.

    Last are those that nobody should look at without knowing, see `marked`.
    """
    used = in_use(project)

    def rank(source: SourceInfo) -> tuple[bool, bool, bool, bool, str]:
        model = source.source.model if source.source.is_prediction else ""
        latest = bool(model) and source.name == project.ledger.latest(model)
        return (
            bool(marked(project, source.name)),
            not model,
            model != used,
            not latest,
            source.name,
        )

    return [s.name for s in sorted(project.ledger.sources(), key=rank)]


def marked(project: Project, source: str) -> str:
    """Return what makes a source no default: "rolled back", "unfinished", "stale"; else nothing."""
    parsed = Source.parse(source)
    if parsed.is_prediction and (why := standing(project, parsed.model)):
        return why
    try:
        return "stale" if project.contents.stale(source) else ""
    except FossilError:
        # The photographs were moved: nothing can be compared.
        return ""


def default_source(project: Project) -> str:
    """Return the predictions to show where none were chosen; empty: none that are fit for it."""
    for name in shown_sources(project):
        if Source.parse(name).is_prediction and not marked(project, name):
            return name
    return ""


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
            advice='Predict it on the page "Segment" first.',
        )
    return next((name for name in (shown, ledger.latest(model)) if name in names), names[-1])


P = TypeVar("P", LinkParams, EvaluateParams, PictureParams, TeachParams)


def with_class(project: Project, params: P) -> P:
    """Return parameters with the first class of the project where none was named.

    Raises
    ------
    FossilError
        Where a class is named that neither the project nor any instance has.
    """
    name = known_class(project, params.class_name) or project.settings.classes[0]
    return params.model_copy(update={"class_name": name})


def known_class(project: Project, name: str) -> str:
    """Return the name of a class, checked to be one of the project or of an instance; also empty.

    Raises
    ------
    FossilError
        Where a class is named that neither the project nor any instance has.
    """
    known = ["", *project.settings.classes]
    if name in known:
        return name
    for source in project.ledger.sources():
        known += [c for c in project.ledger.classes(source.name) if c not in known]
    if name not in known:
        near = get_close_matches(name, known, 1)
        raise FossilError(
            f"The project has no class {name!r}",
            expected=f"one of {', '.join(known[1:])}",
            found=repr(name),
            advice=f"Do you mean {near[0]!r}?" if near else "",
        )
    return name


def without_orphans(instances: Sequence[Instance]) -> list[Instance]:
    """Return the instances without cavities whose body is not among them."""
    bodies = {i.id for i in instances if i.part is Part.BODY}
    return [i for i in instances if i.parent is None or i.parent in bodies]
