"""The plot of a long run: how fast it is, and how much memory it holds, over its slices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def drawn(plot: Path, elapsed: Any, memory: Any) -> None:
    """Draw slices a second and memory over the slices."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    window = max(1, len(elapsed) // 60)
    z = np.arange(window, len(elapsed), window)
    figure, (rate, held) = plt.subplots(1, 2, figsize=(7, 2.4), layout="constrained")
    rate.plot(z, window / (elapsed[z] - elapsed[z - window]), color="black", linewidth=1)
    rate.set(xlabel="slices done", ylabel="slices a second", ylim=(0, None))
    held.plot(memory, color="black", linewidth=1)
    held.set(xlabel="slices done", ylabel="resident memory, MiB", ylim=(0, None))
    for axes in (rate, held):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(plot, dpi=90)
