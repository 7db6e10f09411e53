"""Running a workflow away from the window: in a process of its own, or in a thread."""

from napari_fossiledit.jobs.process import run_in_process
from napari_fossiledit.jobs.tickets import Tickets
from napari_fossiledit.jobs.warm import WarmProcess

__all__ = ["Tickets", "WarmProcess", "run_in_process"]
