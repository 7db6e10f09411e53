"""Image corruptions that tell what a model sees: regions of a slice filled with something else."""

from napari_fossiledit.perturb.apply import Perturbed, perturb
from napari_fossiledit.perturb.mud import measure_mud, pick_colour
from napari_fossiledit.perturb.region_text import parse_region
from napari_fossiledit.perturb.regions import region_mask
from napari_fossiledit.perturb.rock import rock_face
from napari_fossiledit.perturb.scene import Scene
from napari_fossiledit.perturb.steps import Step, parse_steps, preset_steps, steps_text

__all__ = [
    "Perturbed",
    "Scene",
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
