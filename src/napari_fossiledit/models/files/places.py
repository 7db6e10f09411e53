"""Places of models on disk: names of their files, and the models that come with the package.

Imports no torch, so that a list of models costs nothing.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS, RECORD = "weights.safetensors", "model.json"

STATE = "training.safetensors"
"""File beside them from which a training that was stopped goes on; a finished one has none."""

CHECKPOINTS = (".pth", ".pkl")
"""Endings of the names of checkpoints of other programs."""

SHIPPED = Path(__file__).parent / "weights"
"""Folder of the models that come with the package, one folder each."""


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with the package."""
    if not SHIPPED.is_dir():
        return ()
    return tuple(sorted(p.name for p in SHIPPED.iterdir() if (p / RECORD).is_file()))
