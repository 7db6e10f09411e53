"""Parameters of solving for an edit, of editing and of repairing."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from napari_fossiledit.params.base import MaskCut, Params
from napari_fossiledit.params.perturb import PerturbParams, Preset
from napari_fossiledit.params.segment import Backend, Device


class Solver(StrEnum):
    """How the weights of a level are found: least absolute deviations, least squares, Adam."""

    DIRECT = "direct"
    RIDGE = "ridge"
    ADAM = "adam"


class Pull(StrEnum):
    """Aim an edit is held to: unchanged output on preserved slices, or the parent's weights."""

    OUTPUT = "output"
    WEIGHTS = "weights"


class Scope(StrEnum):
    """Parts that see the edited maps: proposals, boxes and masks, or the masks alone.

    With ``MASKS`` the same instances are found with the same boxes and scores, and only their
    outlines change: none can be lost and no wrong one goes away.
    """

    ALL = "all"
    MASKS = "masks"


class SolveParams(Params):
    """How an edit is solved; the defaults of ``adam`` are the paper's (section 4.2)."""

    solver: Solver = Field(
        Solver.DIRECT, description="direct and ridge take seconds, adam minutes."
    )
    scope: Scope = Field(
        Scope.ALL, description="What the edit changes: all, or outlines (masks) alone."
    )
    levels: str = Field("0-3", description="Levels of the pyramid to edit, 0 is the finest.")
    pull: float = Field(
        0.1, ge=0, le=1e6, description="How strongly direct and ridge hold to what is known."
    )
    pull_to: Pull = Field(Pull.OUTPUT, description="Hold the output on preserved slices, or W0.")
    fossil_weight: float = Field(
        30.0, ge=1, le=1e6, description="How often a position on a fossil counts."
    )
    marked_only: bool = Field(False, description="Fit the positions that were perturbed only.")
    rank: int = Field(
        0, ge=0, le=4096, description="Whitened key directions an edit may use; 0: all."
    )
    iterations: int = Field(
        20, ge=1, le=10000, description="Most ADMM iterations of direct; it stops once settled."
    )
    adam_steps: int = Field(20000, ge=1, le=10**7, description="Steps of adam.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Learning rate of adam.")
    batch: int = Field(0, ge=0, description="Positions in a step of adam; 0: all.")
    block: int = Field(4096, ge=64, description="Positions held unfolded at once.")
    keep_partial: bool = Field(
        False, description="When cancelled, keep the best weights so far as an edit."
    )
    seed: int = Field(0, ge=0, description="Seed of the position batches of adam.")


class EditParams(PerturbParams, SolveParams):
    """How a model is rewritten, judged and saved as an edit.

    The defaults are those that gained most precision on the tuning slices of the sample reef while
    nothing else fell by much (docs/benchmarks/editing.md), not the paper's.
    """

    preset: Preset = Field(Preset.SOFTEN_BACKGROUND, description="What is filled with what.")
    solver: Solver = Field(Solver.RIDGE, description="direct and ridge take seconds, adam minutes.")
    scope: Scope = Field(
        # Half of the recall that an edit of all costs is lost because instances are not found.
        Scope.MASKS,
        description="masks: outlines alone, what is found stays; all: also what is found.",
    )
    fossil_weight: float = Field(
        10.0, ge=1, le=1e6, description="How often a position on a fossil counts."
    )
    pull: float = Field(
        0.3, ge=0, le=1e6, description="How strongly direct and ridge hold to what is known."
    )
    pull_to: Pull = Field(Pull.WEIGHTS, description="Hold the output on preserved slices, or W0.")
    name: str = Field("", max_length=64, description="Name of the edit; empty: made up.")
    model: str = Field("", description="Model or edit to rewrite; empty: the one in use.")
    slices: str = Field("", description="Slices to edit with; several are one joint edit.")
    preserve: str = Field(
        "", description="Slices whose output should stay; empty: some of the stack."
    )
    tuning: str = Field(
        "", description="Traced slices that choose strength and score; empty: those held out."
    )
    pinned: str = Field("", description="Traced slices that judge; empty: the pinned ones.")
    region: str = Field(
        "",
        description="Part of each slice to edit with, tune and judge on, x0:x1,y0:y1; empty: all.",
    )
    strengths: str = Field(
        "0.25,0.5,0.75,1", description="Strengths to choose from; 1 is the whole edit."
    )
    scores: str = Field("0", description="Score thresholds to choose from; the paper takes 0.")
    mask_cut: MaskCut = 0.5
    tolerance: float = Field(
        0.02, ge=0, le=1, description="Loss of recall and IoU that is accepted for precision."
    )
    device: Device = Field(Device.AUTO, description="Where to compute.")
    backend: Backend = Field(
        Backend.TWIN, description="What computes; detectron2 is its own code, if installed."
    )


_EDIT = EditParams.model_fields


class RepairParams(Params):
    """A wrong place, and how the edit that mends it is made and judged."""

    model: str = Field("", description="Model or edit that is wrong; empty: the one in use.")
    slice: int = Field(ge=0, description="Slice on which it is wrong.")
    instance: int | None = Field(
        None,
        ge=0,
        description="Id of the predicted instance that is wrong; 0 or none: see outline.",
    )
    outline: str = Field(
        "",
        description="Outline of a fossil that was missed: corners x,y x,y x,y, or any region"
        " such as 'ellipse 10:40,5:25'.",
    )
    towards_texture: bool = Field(
        False,
        description="For a missed fossil: also show it filled with the pitted texture; such edits"
        " never helped in the paper.",
    )
    joint: int = Field(
        4, ge=0, le=50, description="Most other traced slices that are edited with jointly."
    )
    solver: Solver = Field(_EDIT["solver"].default, description=_EDIT["solver"].description)
    strengths: str = Field(_EDIT["strengths"].default, description=_EDIT["strengths"].description)
    tolerance: float = Field(
        _EDIT["tolerance"].default, ge=0, le=1, description=_EDIT["tolerance"].description
    )
    mask_cut: MaskCut = _EDIT["mask_cut"].default
    tuning: str = Field("", description=_EDIT["tuning"].description)
    pinned: str = Field("", description=_EDIT["pinned"].description)
    name: str = Field("", max_length=64, description=_EDIT["name"].description)
    device: Device = Field(Device.AUTO, description=_EDIT["device"].description)
