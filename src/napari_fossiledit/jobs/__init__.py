"""Running a workflow away from the window: in a process of its own, or in a thread."""

from napari_fossiledit.jobs.process import run_in_process
from napari_fossiledit.jobs.tickets import Tickets

__all__ = ["Tickets", "run_in_process"]
