"""Parameters of probing a model for its weaknesses."""

from __future__ import annotations

from pydantic import Field

from napari_fossiledit.errors import FossilError
from napari_fossiledit.params.base import MaskCut
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.segment import Device

ALL = "all"


class ProbeParams(PerturbParams):
    """Which perturbations a model is shown, and where."""

    model: str = Field("", description="Name of a model or edit of the project, or a file.")
    slices: str = Field(
        "",
        description="Traced slices to probe, as 0,2,4-9; empty: four that are not pinned and, if"
        " there are any, new to the model.",
    )
    presets: str = Field(
        ALL, description="Perturbations by name, with commas between; all; or custom."
    )
    score: float = Field(
        0.0, ge=0, le=1, description="Score threshold of the paper's protocol (0 there)."
    )
    detection_score: float = Field(
        0.5, ge=0, le=1, description="Score threshold of what counts as found in the slices."
    )
    mask_cut: MaskCut = 0.5
    device: Device = Field(Device.AUTO, description="Where to compute.")


def chosen_presets(params: ProbeParams) -> tuple[Preset, ...]:
    """Return the presets to run, in the order in which they are named.

    ``all`` leaves out ``custom`` and ``soften-background``, which shows nothing that
    ``background-to-mud`` does not.

    Raises
    ------
    FossilError
        Where one is unknown, or ``custom`` has no steps.
    """
    names = [name.strip() for name in params.presets.split(",") if name.strip()]
    if [name.lower() for name in names] in ([], [ALL]):
        return tuple(p for p in Preset if p not in (Preset.SOFTEN_BACKGROUND, Preset.CUSTOM))
    unknown = [name for name in names if name.lower() not in tuple(Preset)]
    if unknown:
        raise FossilError(
            "There is no such perturbation",
            expected=f"one of {', '.join(Preset)}",
            found=unknown[0],
        )
    presets = tuple(dict.fromkeys(Preset(name.lower()) for name in names))
    if Preset.CUSTOM in presets and not params.steps.strip():
        raise FossilError(
            "The custom perturbation has no steps",
            expected="REGION -> FILL; REGION -> FILL",
            found="nothing",
            advice="Name steps such as 'class calcimicrobe -> mud'.",
        )
    return presets
