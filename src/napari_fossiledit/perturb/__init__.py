"""Image corruptions that show what a model relies on: regions of a slice filled with something."""

from napari_fossiledit.perturb.language import parse_region, parse_steps
from napari_fossiledit.perturb.mud import measure_mud, pick_colour, rock_face
from napari_fossiledit.perturb.regions import region_mask
from napari_fossiledit.perturb.scene import SliceScene
from napari_fossiledit.perturb.steps import Perturbed, Step, perturb, preset_steps, steps_text

__all__ = [
    "Perturbed",
    "SliceScene",
    "Step",
    "measure_mud",
    "parse_region",
    "parse_steps",
    "perturb",
    "pick_colour",
    "preset_steps",
    "region_mask",
    "rock_face",
    "steps_text",
]
