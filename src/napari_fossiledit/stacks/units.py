"""Units of lengths in files, and which resolutions in files mean something."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

UM_PER_INCH = 25400.0

#: What cameras and programs write where they know nothing.
_MEANINGLESS_DPI = (72, 96)
# Keys are lower case; ImageJ escapes the micro sign, and there are two such signs in Unicode.
_UM = {
    "nm": 1e-3,
    "nanometer": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "inch": UM_PER_INCH,
}


def in_um(value: Any, unit: str | None) -> float | None:
    """Return a length in um, None where it is not positive or its unit is unknown."""
    factor = _UM.get((unit or "").strip().lower())
    try:
        length = float(value) * factor if factor else math.nan
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None


def believable_dpi(dpi: float | None) -> TypeGuard[float]:
    """Return whether a resolution is likely to have been measured rather than made up."""
    # PNG keeps whole pixels per metre, so 72 comes back as 72.009.
    return dpi is not None and round(dpi) not in _MEANINGLESS_DPI
