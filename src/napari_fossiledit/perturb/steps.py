"""Steps of a perturbation, regions and what each is filled with, and their application."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.perturb.fills import Blur, Fill, Mud, Seamless, Texture
from napari_fossiledit.perturb.regions import Grow, OfClass, Other, Term, region_mask
from napari_fossiledit.perturb.scene import Image, SliceScene, Where
from napari_fossiledit.progress import Cancel, check, never

ARROW, STEP_SEPARATOR, FILL_SEPARATOR = "->", ";", " + "

SOFTENING_SIGMA = 4.0
"""Standard deviation, in pixels, of the blur that softens the background."""


@dataclass(frozen=True)
class Step:
    """A region and what it is filled with; ``str`` gives the text it is read from.

    Attributes
    ----------
    region
        Where.
    fills
        With what; each changes what the one before left.
    """

    region: Term
    fills: tuple[Fill, ...]

    def __str__(self) -> str:
        return f"{self.region} {ARROW} {FILL_SEPARATOR.join(map(str, self.fills))}"


def steps_text(steps: Iterable[Step]) -> str:
    """Write steps so that `parse_steps` reads them back."""
    return f"{STEP_SEPARATOR} ".join(map(str, steps))


def preset_steps(
    preset: Preset, class_name: str, *, seamless: bool = False, margin: float = 0.0
) -> tuple[Step, ...]:
    """Return the steps of a preset for the fossils of one class (see `Preset`).

    Parameters
    ----------
    seamless
        Stitch the texture rather than laying it in tiles.
    margin
        Pixels beyond the fossils that are filled with them.

    Raises
    ------
    FossilError
        For the preset custom, whose steps are the user's.
    """
    if preset is Preset.CUSTOM:
        raise FossilError("The preset custom has no steps of its own", expected="steps")
    texture = Seamless() if seamless else Texture()
    to_mud = Step(Other(class_name), (Mud(),))
    fossils = Grow(margin, OfClass(class_name)) if margin else OfClass(class_name)
    to_texture = Step(fossils, (texture,))
    return {
        Preset.BACKGROUND_TO_MUD: (to_mud,),
        Preset.FOSSILS_TO_TEXTURE: (to_texture,),
        Preset.BOTH: (to_mud, to_texture),
        Preset.OCCLUDE_FOSSILS: (Step(fossils, (Mud(),)),),
        Preset.SOFTEN_BACKGROUND: (Step(Other(class_name), (Blur(SOFTENING_SIGMA),)),),
    }[preset]


@dataclass(frozen=True)
class Perturbed:
    """A perturbed slice.

    Attributes
    ----------
    image
        The perturbed slice, of the shape and dtype of the original.
    changed
        Pixels (y, x) of any step's region.
    share
        Their share of the slice, 0 to 1.
    """

    image: Image
    changed: Where
    share: float


def perturb(
    scene: SliceScene, steps: Sequence[Step], *, seed: int = 0, cancel: Cancel = never
) -> Perturbed:
    """Fill regions of a slice, one step after the other; the scene is left as it is.

    Parameters
    ----------
    seed
        Seed of noise and of stitched textures: the same seed gives the same pixels.

    Raises
    ------
    FossilError
        Where there is no step, one does not suit the slice, or the user stopped it.
    """
    if not steps:
        raise FossilError("There is nothing to perturb with", expected="one step or more")
    image = np.array(scene.image)
    changed = np.zeros(scene.shape, dtype=np.bool_)
    for number, step in enumerate(steps):
        mask = region_mask(step.region, scene)
        for layer, fill in enumerate(step.fills):
            check(cancel, "Perturbing")
            # A generator for each fill: one more at the end leaves the others as they are.
            fill.paint(image, mask, scene, np.random.default_rng([seed, number, layer]))
        changed |= mask
    return Perturbed(image, changed, float(changed.mean()))
