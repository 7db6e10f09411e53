"""Units of lengths in files, and which resolutions in files mean something."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

UM_PER_INCH = 25400.0

#: What cameras and programs write where they know nothing.
_MEANINGLESS_DPI = (72, 96)
# Edges of a pixel may differ by that share before it is not square: resolutions are rounded.
_SQUARE = 0.005
_PREFIXES = {"": 1e6, "deci": 1e5, "centi": 1e4, "milli": 1e3, "micro": 1.0, "nano": 1e-3}
# Keys are lower case; ImageJ escapes the micro sign, and there are two such signs in Unicode.
_UM = {
    **{
        f"{p}{m}{s}": f for p, f in _PREFIXES.items() for m in ("meter", "metre") for s in ("", "s")
    },
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "µ", "μ"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "dm": 1e5, "m": 1e6, "å": 1e-4, "angstrom": 1e-4},
    **dict.fromkeys(("inch", "inches", "in", '"'), UM_PER_INCH),
    **{"mil": UM_PER_INCH / 1000, "thou": UM_PER_INCH / 1000},
}
# Words for no unit at all.
_NONE = ("", "pixel", "pixels", "voxel", "voxels", "px", "none", "null", "index", "no unit")


def in_um(value: Any, unit: str | None) -> float | None:
    """Return a length in um, None where it is not positive or its unit is unknown."""
    # What stands in a file need not be a word.
    factor = _UM.get(str(unit or "").strip().lower())
    try:
        length = float(value) * factor if factor else math.nan
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


class Pitch(NamedTuple):
    """Edge of a square pixel in um, None where there is none; and what is odd, for the user."""

    um: float | None
    warning: str = ""


def pitch(x: Any, y: Any, unit: str | None) -> Pitch:
    """Return the pixel size by its edges along x and y; a pixel that is not square has none."""
    across, down = in_um(x, unit), in_um(y, unit)
    if across is None or down is None:
        word = str(unit or "").strip()
        unknown = word.lower() not in (*_NONE, *_UM)
        return Pitch(
            across or down,
            f"The unit {word!r} of lengths is not known; sizes in it are not used." * unknown,
        )
    if abs(across - down) <= _SQUARE * across:
        return Pitch(across)
    return Pitch(
        None,
        f"Pixels are not square: {across:.6g} um along x, {down:.6g} um along y. They are taken "
        "as square; resample the images, or volumes and shapes are wrong.",
    )


def resolution(dpi: tuple[float, float] | None) -> Pitch:
    """Return the pixel size by a resolution along x and y that was measured, not made up."""
    # PNG keeps whole pixels per metre, so 72 comes back as 72.009.
    if dpi is None or min(dpi) <= 1 or all(round(n) in _MEANINGLESS_DPI for n in dpi):
        return Pitch(None)
    return pitch(UM_PER_INCH / dpi[0], UM_PER_INCH / dpi[1], "um")
