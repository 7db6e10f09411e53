"""The project folder: crash-safe writes, one truth for each fact."""

from napari_fossiledit.project.actions import Action, PastAction, Undone, Version
from napari_fossiledit.project.database import QUEUED
from napari_fossiledit.project.edits import EditRecord, EditState, EditStore
from napari_fossiledit.project.ledger import (
    UNCHANGED,
    Ledger,
    Linked,
    Numbered,
    SourceInfo,
    TakenFrom,
    TakenOver,
)
from napari_fossiledit.project.project import Project
from napari_fossiledit.project.runs import DamagedError, Run
from napari_fossiledit.project.settings import ProjectSettings
from napari_fossiledit.project.source import ANNOTATIONS, LABELS, PASS, Source

__all__ = [
    "ANNOTATIONS",
    "LABELS",
    "PASS",
    "QUEUED",
    "UNCHANGED",
    "Action",
    "DamagedError",
    "EditRecord",
    "EditState",
    "EditStore",
    "Ledger",
    "Linked",
    "Numbered",
    "PastAction",
    "Project",
    "ProjectSettings",
    "Run",
    "Source",
    "SourceInfo",
    "TakenFrom",
    "TakenOver",
    "Undone",
    "Version",
]
