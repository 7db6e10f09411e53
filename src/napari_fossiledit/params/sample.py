"""Parameters of sample data and of the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from napari_fossiledit.params.base import Params


class ReefParams(Params):
    """Content of a sample reef, how it is photographed and how hard it is to read.

    Sizes of fossils are in um and numbers are densities, so that a larger picture shows more rock
    and a smaller pixel shows the same rock in more detail.
    """

    slices: int = Field(default=64, ge=1, le=5000, description="Number of slices.")
    size: int = Field(
        default=640,
        ge=32,
        le=8192,
        description="Width of a slice in pixels; the height is three quarters of it.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Seed of everything random.")
    pixel_size_um: float = Field(default=72.7, gt=0, le=1e5, description="Edge of a pixel in um.")
    slice_spacing_um: float = Field(default=500.0, gt=0, le=1e5, description="Slice step in um.")

    misalignment_px: float = Field(
        default=0.0, ge=0, le=100, description="Standard deviation of a slice's shift in pixels."
    )
    misalignment_deg: float = Field(
        default=0.0, ge=0, le=30, description="Standard deviation of a slice's turn in degrees."
    )
    light_drift: float = Field(
        default=0.06, ge=0, le=0.5, description="How far the light drifts through z, as a share."
    )
    camera_noise: float = Field(
        default=4.0, ge=0, le=50, description="Standard deviation of the camera's noise (0-255)."
    )

    cups_per_cm3: float = Field(
        default=1.8, ge=0, le=20, description="Archaeocyathids planted per cubic centimetre."
    )
    cup_diameter_min_um: float = Field(
        default=2300.0, gt=0, le=1e5, description="Smallest diameter of a cup in um."
    )
    cup_diameter_max_um: float = Field(
        default=7600.0, gt=0, le=1e5, description="Largest diameter of a cup in um."
    )
    cup_gap_um: float = Field(
        default=160.0, ge=0, le=1e4, description="Least distance between two specimens in um."
    )
    branching_share: float = Field(
        default=0.4, ge=0, le=1, description="Share of the upright cups that branch."
    )
    lying_share: float = Field(
        default=0.35, ge=0, le=1, description="Share of cups cut lengthwise, often as crescents."
    )
    mud_filled_share: float = Field(
        default=0.35, ge=0, le=1, description="Share of the cups that mud fills."
    )
    mud_filled_contrast: float = Field(
        default=0.15, ge=0, le=1, description="How clearly the skeleton of mud-filled cups shows."
    )
    mud_in_pitted: float = Field(
        default=0.25, ge=0, le=0.6, description="Mean share of a pitted cup that mud stains."
    )

    clots_per_cm3: float = Field(
        default=1.2, ge=0, le=20, description="Calcimicrobe clots per cubic centimetre."
    )
    crust_share: float = Field(
        default=0.9, ge=0, le=1, description="Share of the specimens that a crust surrounds."
    )
    calcimicrobe_similarity: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="How closely calcimicrobe looks like pitted archaeocyathids; 0 not, 1 wholly.",
    )
    calcimicrobe_raggedness: float = Field(
        default=0.12, ge=0, le=1, description="How ragged the edges of calcimicrobe are."
    )
    shells_per_cm3: float = Field(
        default=1.6, ge=0, le=20, description="Thin shells per cubic centimetre."
    )
    spar_per_cm3: float = Field(
        default=0.35, ge=0, le=20, description="Pockets of spar cement per cubic centimetre."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.cup_diameter_min_um > self.cup_diameter_max_um:
            raise ValueError("cup_diameter_min_um must not exceed cup_diameter_max_um")
        return self

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Slices, rows and columns of the stack."""
        return (self.slices, self.size * 3 // 4, self.size)

    @property
    def extent_zyx_um(self) -> tuple[float, float, float]:
        """Depth, height and width of the stack in um, whole voxels counted."""
        slices, rows, columns = self.shape_zyx
        return (
            slices * self.slice_spacing_um,
            rows * self.pixel_size_um,
            columns * self.pixel_size_um,
        )


class DemoParams(Params):
    """How the demonstration runs."""

    out: Path = Field(Path("demo-output"), description="Folder for pictures, table and meshes.")
    slices: int = Field(32, ge=8, le=512, description="Slices of the sample reef.")
    size: int = Field(512, ge=256, le=4096, description="Width of its slices in pixels.")
    seed: int = Field(7, ge=0, description="Seed of the sample reef; the shipped model saw none.")
