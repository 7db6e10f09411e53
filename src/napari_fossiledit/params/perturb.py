"""Parameters of perturbing a slice."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from napari_fossiledit.params.base import Params


class Preset(StrEnum):
    """Perturbations that are used again and again.

    The first three are (b), (c) and (d) of the paper: all but the fossils to mud, the fossils to
    pitted texture, and both. ``OCCLUDE_FOSSILS`` fills the fossils with mud: whatever is then still
    found is made up. ``SOFTEN_BACKGROUND`` blurs all but the fossils: a gentler (b), whose edits
    cost less recall. ``CUSTOM`` does what the steps say.
    """

    BACKGROUND_TO_MUD = "background-to-mud"
    FOSSILS_TO_TEXTURE = "fossils-to-texture"
    BOTH = "both"
    OCCLUDE_FOSSILS = "occlude-fossils"
    SOFTEN_BACKGROUND = "soften-background"
    CUSTOM = "custom"


class PerturbParams(Params):
    """Changes to a slice before the model sees it again."""

    preset: Preset = Field(Preset.BACKGROUND_TO_MUD, description="What is filled with what.")
    steps: str = Field(
        "",
        description="Steps of the preset custom: REGION -> FILL; REGION -> FILL, "
        "e.g. class calcimicrobe -> mud.",
    )
    source: str = Field(
        "annotations",
        description="Whose instances tell the regions: annotations, labels or a model.",
    )
    source_score: float = Field(
        0.5, ge=0, le=1, description="Score threshold where a model's instances tell the regions."
    )
    class_name: str = Field("", description="Class of the fossils; empty: the project's first.")
    mud: str = Field(
        "",
        description="Mud colour r,g,b; auto: measured on each slice; "
        "empty: the project's, or auto where none was picked.",
    )
    relative: bool = Field(
        True, description="The project's mud colour follows the light of each slice."
    )
    texture: str = Field(
        "",
        description="Square crop of the texture, SLICE:x0:x1,y0:y1; "
        "empty: the largest in the largest pitted fossil.",
    )
    seamless: bool = Field(False, description="Stitch the texture without seams, not as tiles.")
    margin: float = Field(
        0.0,
        ge=0,
        le=99,
        description="Pixels beyond the fossils that a preset fills with them, to hide their rims.",
    )
    perturb_seed: int = Field(0, ge=0, description="Seed of noise and of stitched textures.")
