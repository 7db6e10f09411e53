"""The edit that is proposed for a wrong place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from napari_fossiledit.errors import FossilError
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, iou_matrix, union
from napari_fossiledit.params.editing import EditParams, Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.params.repair import RepairParams
from napari_fossiledit.perturb import parse_region, steps_text
from napari_fossiledit.perturb.fills import Mud, Texture
from napari_fossiledit.perturb.regions import And, Not, OfInstances, Or, Other, Term
from napari_fossiledit.perturb.steps import Step
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.edit.judging import SEEN
from napari_fossiledit.workflows.edit.pairs import Recipe
from napari_fossiledit.workflows.repair.place import Place

_RIGHT = 0.9
"""Share of a mask on true fossils from which on it is right."""

_THE_SAME = 0.5
"""A prediction with this IoU or more is as wrong as the mask that was chosen."""


@dataclass(frozen=True)
class Known:
    """What is known of the slice, apart from the wrong mask.

    Attributes
    ----------
    source
        Who tells which pixels are fossils: the tracings, or else the model itself.
    instances
        Bodies of that source, without the wrong one.
    """

    source: str
    instances: tuple[Instance, ...]

    @property
    def traced(self) -> bool:
        """Whether people told it."""
        return self.source == ANNOTATIONS

    def fossils(self, class_name: str) -> list[Mask]:
        """Masks of the class."""
        return [i.mask for i in self.instances if i.class_name == class_name]


def known_of(project: Project, place: Place, source: str) -> Known:
    """Take the tracings where the place lies in the traced area, else what the model found."""
    traced = project.ledger.traced()
    if place.slice in traced:
        area = traced[place.slice]
        inside = place.pixels.area if area is None else (place.pixels & area).area
        if 2 * inside > place.pixels.area:
            return Known(ANNOTATIONS, _bodies(project.instances(ANNOTATIONS, place.slice)))
    found = _bodies(project.instances(source, place.slice, min_score=SEEN))
    overlaps = iou_matrix([i.mask for i in found], [place.pixels])[:, 0]
    pairs = zip(found, overlaps, strict=True)
    return Known(source, tuple(i for i, overlap in pairs if overlap < _THE_SAME))


def _bodies(instances: Sequence[Instance]) -> tuple[Instance, ...]:
    return tuple(i for i in instances if i.part is Part.BODY)


def require_wrong(place: Place, known: Known) -> None:
    """Refuse a mask that is right by the tracing: no edit can mend it."""
    if place.missed or not known.traced:
        return
    fossils = known.fossils(place.class_name)
    on = int(intersections([place.pixels], [union(fossils, place.pixels.shape)])[0, 0])
    if on >= _RIGHT * place.pixels.area:
        raise FossilError(
            f"The {place} of slice {place.slice} is right by the tracing",
            expected=f"a mask off the traced {place.class_name}",
            found=f"{on / place.pixels.area:.0%} of it on one",
            advice="Choose another one, or correct the tracing.",
        )


_LEVELS, _FOSSIL_WEIGHT = "0", 30.0
"""With these, repairs on the sample reef cost the other instances least."""


def proposed(params: RepairParams, place: Place, joint: Sequence[int]) -> EditParams:
    """Propose an edit of the slice with the place, joint with others that need no repair.

    The others are perturbed as in any edit, gently; on the slice with the place all that is no
    fossil becomes mud (see `recipe_for`), which takes a wrong mask away at half the strength. An
    edit of the masks alone could neither take one away nor find a missed one.
    """
    shared = ("model", "name", "tuning", "pinned", "solver", "strengths", "tolerance", "device")
    return EditParams(
        slices=",".join(map(str, [place.slice, *joint])),
        class_name=place.class_name,
        scope=Scope.ALL,
        levels=_LEVELS,
        fossil_weight=_FOSSIL_WEIGHT,
        **{name: getattr(params, name) for name in shared},
    )


def recipe_for(edit: EditParams, params: RepairParams, place: Place, known: Known) -> Recipe:
    """Tell how the slice with the place is shown to the solver."""
    region = _not_fossil(place, known)
    steps = [Step(region, (Mud(),))]
    if place.missed and params.towards_texture:
        steps.append(Step(parse_region(place.outline), (Texture(),)))
    changed = {
        "preset": Preset.CUSTOM,
        "steps": steps_text(steps),
        "source": known.source,
        "source_score": SEEN,
    }
    return Recipe(place.slice, edit.model_copy(update=changed), _counted(place, known))


def _not_fossil(place: Place, known: Known) -> Term:
    """Everything but the fossils, the missed one among them."""
    if known.traced:
        other: Term = Other(place.class_name)
        return And(other, Not(parse_region(place.outline))) if place.missed else other
    ids = tuple(i.id for i in known.instances if i.class_name == place.class_name and i.id)
    kept: list[Term] = [OfInstances(ids)] if ids else []
    kept += [parse_region(place.outline)] if place.missed else []
    if not kept:
        raise FossilError(
            f"Nothing is known of slice {place.slice} but the wrong mask",
            expected="a traced slice, or other instances found by the model",
            advice="Trace the slice, or choose another one.",
        )
    return Not(kept[0] if len(kept) == 1 else Or(*kept))


def _counted(place: Place, known: Known) -> Mask:
    """Positions that count like fossils: of a wrong mask those that are none."""
    if place.missed:
        return place.pixels
    return place.without(known.fossils(place.class_name))
