"""Write the procedural sample reef."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.exchange.reef_files import write_reef
from napari_fossiledit.params.sample import ReefParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.samples.reef import Reef


@dataclass(frozen=True)
class SampleResult:
    """A sample reef that was written.

    Attributes
    ----------
    content
        Files, counts and voxel size, JSON-able.
    """

    content: Mapping[str, Any]

    def summary(self) -> Mapping[str, Any]:
        """Return the result as JSON-able values."""
        return self.content


def run(
    out: Path,
    params: ReefParams,
    *,
    job: Job = QUIET,
) -> SampleResult:
    """Write a sample reef with its exact truth into `out`; see `exchange.reef_files.write_reef`."""
    return SampleResult(write_reef(Reef(params), out, job))
