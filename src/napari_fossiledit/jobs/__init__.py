"""Running a workflow away from the window, and its parts in threads and processes."""

from napari_fossiledit.jobs.process import run_in_process
from napari_fossiledit.jobs.spread import Outcome, Spread, spread
from napari_fossiledit.jobs.tickets import Tickets
from napari_fossiledit.jobs.warm import WarmProcess

__all__ = ["Outcome", "Spread", "Tickets", "WarmProcess", "run_in_process", "spread"]
