"""A wrong place of a model, what is known of its slice, and the edit that is proposed for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.evaluation.causes import Place
from napari_fossiledit.geometry import parse_slices
from napari_fossiledit.masks import Instance, Mask, Part
from napari_fossiledit.masks.rle import intersections, iou_matrix, union
from napari_fossiledit.params.editing import EditParams, RepairParams, Scope
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.perturb import SliceScene, parse_region, steps_text
from napari_fossiledit.perturb.fills import Mud, Texture
from napari_fossiledit.perturb.regions import (
    And,
    Not,
    OfInstances,
    Or,
    Other,
    Term,
    region_mask,
)
from napari_fossiledit.perturb.steps import Step
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.workflows.edit.judging import SHOWN_SCORE
from napari_fossiledit.workflows.edit.slices import TAUGHT_SHARE, Recipe, spread_over
from napari_fossiledit.workflows.shared.folds import trained_on
from napari_fossiledit.workflows.shared.model_refs import ModelRef

SMALLEST_PLACE = 16
"""Pixels of the smallest place that can be repaired."""

_RIGHT_SHARE = 0.9
"""Share of a mask on true fossils from which on it is right."""

_SAME_IOU = 0.5
"""A prediction with this IoU or more is as wrong as the mask that was chosen."""

_LISTED = 20
"""Most instances that an error lists."""

_LEVELS, _FOSSIL_WEIGHT = "0", 30.0
"""With these, repairs on the sample reef cost the other instances least."""


@dataclass(frozen=True)
class Case:
    """A wrong place, and what is known of its slice.

    Attributes
    ----------
    place
        Where the model is wrong.
    predictions
        All that the model finds on the slice.
    source
        Who says which pixels are fossils: the tracings, or else the model itself.
    instances
        Bodies of that source, without the wrong one.
    """

    place: Place
    predictions: tuple[Instance, ...]
    source: str
    instances: tuple[Instance, ...]

    @property
    def traced(self) -> bool:
        """True where people said it."""
        return self.source == ANNOTATIONS

    @property
    def truths(self) -> tuple[Instance, ...]:
        """Instances that people traced; empty where they did not."""
        return self.instances if self.traced else ()

    @cached_property
    def neighbour(self) -> str:
        """Class that the place lies on or is framed by; empty where none is known."""
        return self.place.neighbour(self.truths)

    @property
    def fossils(self) -> list[Mask]:
        """Masks of the class."""
        return [i.mask for i in self.instances if i.class_name == self.place.class_name]


def find_case(project: Project, params: RepairParams, model: str, source: str) -> Case:
    """Find the place that is meant, and what is known of its slice.

    Parameters
    ----------
    model
        Name of the model in the names of its predictions.
    source
        Its predictions of the slice.

    Raises
    ------
    FossilError
        Where there is no such instance, the outline cannot be read or lies outside the slice,
        both or none of the two are given, the place is too small, or the mask is right.
    """
    if bool(params.instance) == bool(params.outline.strip()):
        raise FossilError(
            "It is not clear what is to be repaired",
            expected="the id of a wrong instance, or the outline of a missed fossil",
            found="both" if params.instance else "neither",
        )
    if params.instance:
        wrong = _wrong_instance(project, params, params.instance, model, source)
        place = Place(params.slice, wrong.mask, wrong.class_name, wrong)
    else:
        text = params.outline.strip()
        region = text if text[:1].isalpha() or text[:1] == "(" else f"polygon {text}"
        # The regions of an outline look at no pixel: any picture of this size will do.
        image = np.broadcast_to(np.uint8(0), project.slice_shape)
        mask = region_mask(parse_region(region), SliceScene(image, name=f"slice {params.slice}"))
        name = project.settings.classes[0]
        place = Place(params.slice, Mask.from_array(mask), name, None, region)
    if place.pixels.area < SMALLEST_PLACE:
        raise FossilError(
            f"{place} of slice {place.slice} is too small to be repaired",
            expected=f"{SMALLEST_PLACE} pixels or more",
            found=place.pixels.area,
        )
    predictions = tuple(project.instances(source, place.slice, mask_cut=params.mask_cut))
    traced = project.ledger.traced()
    # None stands for a slice that is traced as a whole.
    area = traced.get(place.slice)
    inside = place.pixels.area if area is None else (place.pixels & area).area
    if place.slice in traced and 2 * inside > place.pixels.area:
        instances = _bodies(project.instances(ANNOTATIONS, place.slice))
        case = Case(place, predictions, ANNOTATIONS, instances)
    else:
        bodies = _bodies(i for i in predictions if i.score >= SHOWN_SCORE)
        overlaps = iou_matrix([i.mask for i in bodies], [place.pixels])[:, 0]
        pairs = zip(bodies, overlaps, strict=True)
        others = tuple(i for i, overlap in pairs if overlap < _SAME_IOU)
        case = Case(place, predictions, source, others)
    _require_wrong(case)
    return case


def _wrong_instance(
    project: Project, params: RepairParams, id_: int, model: str, source: str
) -> Instance:
    """Find a body among all predictions of the model, whatever options they were made with."""
    z = params.slice
    names = [s.name for s in project.ledger.predictions(model)]
    for name in dict.fromkeys([source, *names]):
        bodies = project.ledger.instances(
            name, slices=[z], ids=[id_], part=Part.BODY, mask_cut=params.mask_cut
        )
        if bodies:
            return bodies[0]
    there = project.ledger.instances(source, slices=[z], part=Part.BODY)
    listed = ", ".join(f"{i.id} (score {i.score:.2f})" for i in there[:_LISTED])
    more = len(there) - _LISTED
    raise FossilError(
        f"{model} has no instance {id_} on slice {z}",
        expected=f"one of {listed}{f' and {more} more' if more > 0 else ''}" if there else None,
        found=None if there else "no instance at all",
        advice="Click on the mask in the window, or outline a missed fossil.",
    )


def _bodies(instances: Iterable[Instance]) -> tuple[Instance, ...]:
    return tuple(i for i in instances if i.part is Part.BODY)


def _require_wrong(case: Case) -> None:
    """Raise where a mask is right by the tracing: no edit can mend it."""
    place = case.place
    if place.missed or not case.traced:
        return
    on = int(intersections([place.pixels], [union(case.fossils, place.pixels.shape)])[0, 0])
    if on >= _RIGHT_SHARE * place.pixels.area:
        raise FossilError(
            f"The {place} of slice {place.slice} is right by the tracing",
            expected=f"a mask off the traced {place.class_name}",
            found=f"{on / place.pixels.area:.0%} of it on one",
            advice="Choose another one, or correct the tracing.",
        )


# -------------------------------------------------------------------- the proposal


def joint_slices(
    project: Project, params: RepairParams, ref: ModelRef, class_name: str
) -> tuple[int, ...]:
    """Choose traced slices to edit with jointly, so that the edit does not only fit one place.

    Those the model was trained on come first: they could not judge anyway. Where it was trained
    elsewhere, some others are taken, and enough are left to choose the strength and to judge.
    """
    tuning, pinned = (
        set(parse_slices(text, project.shape[0])) if text.strip() else set()
        for text in (params.tuning, params.pinned)
    )
    pinned |= set(project.settings.pinned_slices)
    bodies = project.ledger.instances(ANNOTATIONS, class_name=class_name, part=Part.BODY)
    showing = {i.slice for i in bodies} & set(project.ledger.traced())
    free = sorted(showing - {params.slice, *tuning, *pinned})
    taught = trained_on(project, ref)
    seen = [z for z in free if z in taught]
    if seen:
        return spread_over(seen, params.joint)
    most = len(free) if tuning and pinned else len(free) // TAUGHT_SHARE
    return spread_over(free, min(params.joint, most))


def proposed(params: RepairParams, place: Place, joint: Sequence[int]) -> EditParams:
    """Propose an edit of the slice with the place, joint with others that need no repair.

    The others are perturbed as in any edit, gently; on the slice with the place all that is no
    fossil becomes mud (see `recipe_for`), which takes a wrong mask away at half the strength. An
    edit of the masks alone could neither take one away nor find a missed one.
    """
    shared = (
        "model",
        "name",
        "tuning",
        "pinned",
        "solver",
        "strengths",
        "tolerance",
        "mask_cut",
        "device",
    )
    return EditParams(
        slices=",".join(map(str, [place.slice, *joint])),
        class_name=place.class_name,
        scope=Scope.ALL,
        levels=_LEVELS,
        fossil_weight=_FOSSIL_WEIGHT,
        **{name: getattr(params, name) for name in (*shared, "mask_cut", "device")},
    )


def recipe_for(edit: EditParams, params: RepairParams, case: Case) -> Recipe:
    """Return how the slice with the place is shown to the solver: without what is no fossil."""
    place = case.place
    steps = [Step(_not_fossil(case), (Mud(),))]
    if place.missed and params.towards_texture:
        steps.append(Step(parse_region(place.outline), (Texture(),)))
    changed = {
        "preset": Preset.CUSTOM,
        "steps": steps_text(steps),
        "source": case.source,
        "source_score": SHOWN_SCORE,
    }
    counted = place.pixels.to_array()
    if not place.missed:
        # Positions of a wrong mask count like fossils, but not where a true one lies.
        for mask in case.fossils:
            counted &= ~mask.to_array()
    return Recipe(place.slice, edit.model_copy(update=changed), Mask.from_array(counted))


def _not_fossil(case: Case) -> Term:
    """Return the region of everything but the fossils, the missed one among them."""
    place = case.place
    if case.traced:
        other: Term = Other(place.class_name)
        return And(other, Not(parse_region(place.outline))) if place.missed else other
    ids = tuple(i.id for i in case.instances if i.class_name == place.class_name and i.id)
    kept: list[Term] = [OfInstances(ids)] if ids else []
    kept += [parse_region(place.outline)] if place.missed else []
    if not kept:
        raise FossilError(
            f"Nothing is known of slice {place.slice} but the wrong mask",
            expected="a traced slice, or other instances found by the model",
            advice="Trace the slice, or choose another one.",
        )
    return Not(kept[0] if len(kept) == 1 else Or(*kept))
