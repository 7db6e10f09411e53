"""Perturb slices of a project: as probing and editing need them, and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.pages import pictures
from napari_fossiledit.geometry import check_slice, format_slices
from napari_fossiledit.masks import Instance, Part
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.perturb import (
    SliceScene,
    Step,
    measure_mud,
    parse_steps,
    perturb,
    pick_colour,
    preset_steps,
    steps_text,
)
from napari_fossiledit.perturb.fills import Mud, as_pixel
from napari_fossiledit.perturb.scene import Colour, Image, Where
from napari_fossiledit.perturb.texture import check_crop
from napari_fossiledit.progress import QUIET, Cancel, Job, never
from napari_fossiledit.project import ANNOTATIONS, Project
from napari_fossiledit.summary import Summary
from napari_fossiledit.workflows.shared.crops import default_crop, read_crop
from napari_fossiledit.workflows.shared.sources import find_source
from napari_fossiledit.workflows.shared.stack_values import StackValues

AUTO = "auto"
PICKED_ON = "mud_picked_on"
"""Key in the ledger: the slice that the mud colour of the project was picked on."""

# Slices whose mud is measured where the one it was picked on is unknown; each is read for it.
_REFERENCES = 5


@dataclass(frozen=True)
class Prepared:
    """A slice as it is and as the model shall see it.

    Attributes
    ----------
    slice
        Index of the slice.
    image, perturbed
        (y, x) or (y, x, 3) of the stack's dtype.
    changed
        Pixels (y, x) of the regions that were filled.
    share
        Their share of the slice, 0 to 1.
    steps
        What was done, as `parse_steps` reads it.
    mud
        Mud colour that was used, None where no step needed one.
    instances
        Bodies that the regions were taken from.
    """

    slice: int
    image: Image
    perturbed: Image
    changed: Where
    share: float
    steps: str
    mud: Colour | None
    instances: tuple[Instance, ...]


@dataclass(frozen=True)
class PerturbResult:
    """A perturbed slice and the picture of it."""

    prepared: Prepared
    out: Path | None

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        mud = self.prepared.mud
        return {
            "slice": self.prepared.slice,
            "steps": self.prepared.steps,
            "share": round(self.prepared.share, 4),
            "mud": None if mud is None else [round(value, 1) for value in mud],
            "picture": None if self.out is None else str(self.out),
        }


@dataclass(frozen=True)
class Preview:
    """A perturbed slice with no more than is shown: it is sent from one process to another.

    Attributes
    ----------
    slice
        Index of the slice.
    image
        The perturbed slice (y, x) or (y, x, 3), data type of the stack.
    share
        Share of its pixels that were perturbed, 0 to 1.
    steps
        What was done, as `parse_steps` reads it.
    mud
        Colour of the mud that was used, None where none was.
    """

    slice: int
    image: Image
    share: float
    steps: str
    mud: Colour | None


@dataclass(frozen=True)
class PickResult(Summary):
    """The mud colour that was picked."""

    slice: int
    mud_colour: tuple[int, int, int]


def run(
    project_path: Path,
    z: int,
    params: PerturbParams,
    out: Path | None = None,
    *,
    job: Job = QUIET,
) -> PerturbResult:
    """Perturb one slice, and write it as a PNG where `out` names one.

    Raises
    ------
    FossilError
        Where the slice is not in the stack, the parameters do not suit it, or the picture cannot
        be written.
    """
    with Project.open(project_path, read_only=True) as project:
        job.report(0, 1, f"Perturbing slice {z}")
        check_readable(project, params)
        made = prepared(project, z, params, cancel=job.cancelled)
        job.report(1, 1, f"Perturbed slice {z}")
    if out is not None:
        pictures.write_png(out, pictures.as_rgb(made.perturbed))
    return PerturbResult(made, out)


def preview(
    project_path: Path,
    z: int,
    params: PerturbParams,
    *,
    job: Job = QUIET,
) -> Preview:
    """Perturb slice `z`, to be shown.

    Raises
    ------
    FossilError
        Where the slice is not in the stack or the parameters do not suit it.
    """
    with Project.open(project_path, read_only=True) as project:
        made = prepared(project, z, params)
    return Preview(z, made.perturbed, made.share, made.steps, made.mud)


def pick_mud(
    project_path: Path,
    z: int,
    x: float,
    y: float,
    *,
    job: Job = QUIET,
) -> PickResult:
    """Take the colour at a pixel of a slice for the mud colour of the project.

    Raises
    ------
    FossilError
        Where the pixel lies outside the slice or the stack, or the project is read-only.
    """
    with Project.open(project_path) as project:
        project.require_writable()
        image = project.stack.read(check_slice(z, project.shape[0]))
        red, green, blue = (round(value) for value in pick_colour(image, x, y))
        job.check("Picking the mud colour")
        project.ledger.set_meta(PICKED_ON, z)
        project.update(mud_colour=(red, green, blue))
        job.report(1, 1, "Picked the mud colour")
    return PickResult(z, (red, green, blue))


def mud_picked_on(project: Project) -> int | None:
    """Return the slice that the mud colour of the project was picked on; None: not known."""
    z = project.ledger.get_meta(PICKED_ON)
    return z if isinstance(z, int) else None


def prepared(
    project: Project, z: int, params: PerturbParams, *, cancel: Cancel = never
) -> Prepared:
    """Perturb slice `z` of an opened project; nothing is written.

    Regions of "everything but a class" keep to the traced area where they are from tracings:
    outside of it fossils may be that were not traced.

    Raises
    ------
    FossilError
        Where the slice is not in the stack or the parameters do not suit it.
    """
    steps = chosen_steps(project, params)
    image = project.stack.read(check_slice(z, project.shape[0]))
    instances = tuple(region_instances(project, z, params))
    mud = None
    if any(isinstance(fill, Mud) for step in steps for fill in step.fills):
        mud = mud_colour(project, z, params, image, instances)

    def crop(text: str) -> Image:
        # An empty name is the texture of the parameters, or the default one.
        name = text or params.texture or default_crop(project, class_of(project, params))
        return read_crop(project, name)

    area = project.ledger.traced().get(z) if params.source == ANNOTATIONS else None
    traced = None if area is None else area.to_array()
    name, values = f"slice {z} ({params.source})", StackValues(project).span
    scene = SliceScene(image, instances, mud, crop, traced, name, values)
    done = perturb(scene, steps, seed=params.perturb_seed, cancel=cancel)
    return Prepared(
        z, image, done.image, done.changed, done.share, steps_text(steps), mud, instances
    )


def chosen_steps(project: Project, params: PerturbParams) -> tuple[Step, ...]:
    """Return the steps of the chosen preset, or those that are written out.

    Raises
    ------
    FossilError
        Where the steps cannot be read, are missing, or stand beside another preset.
    """
    if params.preset is Preset.CUSTOM:
        return parse_steps(params.steps)
    if params.steps.strip():
        raise FossilError(
            f"Steps are given, but the preset is {params.preset}",
            expected=f"the preset {Preset.CUSTOM}, or no steps",
            found=params.steps,
        )
    return preset_steps(
        params.preset,
        class_of(project, params),
        seamless=params.seamless,
        margin=params.margin,
    )


def check_readable(project: Project, params: PerturbParams) -> None:
    """Check that the mud colour and the texture that are named can be read, on whatever slice.

    Raises
    ------
    FossilError
        Where one cannot be read, is not what the stack can hold, or lies outside of it.
    """
    if params.mud.strip().lower() not in ("", AUTO):
        as_pixel(_colour(params.mud), np.zeros((1, 1), dtype=project.stack.dtype))
    if params.texture:
        check_crop(read_crop(project, params.texture))


def class_of(project: Project, params: PerturbParams) -> str:
    """Return the class of the fossils: the one asked for, else the project's first."""
    return params.class_name or project.settings.classes[0]


def region_instances(project: Project, z: int, params: PerturbParams) -> list[Instance]:
    """Return the bodies of slice `z` that regions are taken from.

    Raises
    ------
    FossilError
        Where there is no such source, or a model has not been applied to the slice.
    """
    if params.source == ANNOTATIONS:
        instances = project.instances(params.source, z)
    else:
        source = find_source(project, params.source)
        if z not in project.ledger.done(source):
            raise FossilError(
                f"{params.source} has no prediction of slice {z}",
                expected=f"one of its slices {format_slices(list(project.ledger.done(source)))}",
                advice="Predict the slice first.",
            )
        instances = project.instances(source, z, min_score=params.source_score)
    return [i for i in instances if i.part is Part.BODY]


def mud_colour(
    project: Project,
    z: int,
    params: PerturbParams,
    image: Image,
    instances: Sequence[Instance],
) -> Colour:
    """Return the mud colour of slice `z`, in the slice's own values.

    A colour in the parameters is taken as it is, ``auto`` is measured on the slice. The project's
    colour follows the light of the slice where `params.relative`: it is shifted by how much the
    slice's measured mud differs from that of the slice it was picked on (where that is unknown, of
    a few traced slices on average), and kept within what the slice can hold.

    Raises
    ------
    FossilError
        Where the colour cannot be read, or no mud can be measured.
    """
    text = params.mud.strip().lower()
    if text not in ("", AUTO):
        return _colour(text)
    picked, values = project.settings.mud_colour, StackValues(project).span

    def measured(image: Image, instances: Sequence[Instance]) -> Colour:
        return measure_mud(SliceScene(image, tuple(instances), values=values))

    if text == AUTO or picked is None:
        return measured(image, instances)
    if not params.relative:
        return _triple(picked)
    here = measured(image, instances)
    on = mud_picked_on(project)
    traced = sorted(project.ledger.traced()) or [z]
    spread = traced[:: -(-len(traced) // _REFERENCES)]
    slices = [on] if on is not None and 0 <= on < project.shape[0] else spread
    there = [measured(project.stack.read(k), project.instances(ANNOTATIONS, k)) for k in slices]
    shift = np.subtract(here, np.mean(there, axis=0))
    return _triple(np.clip(np.add(picked, shift), 0, np.iinfo(image.dtype).max))


def _colour(text: str) -> Colour:
    try:
        values = [float(part) for part in text.split(",")]
        if len(values) != 3 or not all(map(math.isfinite, values)):
            raise ValueError
    except ValueError as error:
        raise FossilError(
            "The mud colour cannot be read",
            expected=f"r,g,b such as 90,52,40, or {AUTO}",
            found=repr(text),
        ) from error
    return _triple(values)


def _triple(values: Any) -> Colour:
    red, green, blue = (float(value) for value in values)
    return (red, green, blue)
