"""Predictions against truth: the paper's protocol, detection figures, pixels, COCO's AP."""

from napari_fossiledit.evaluation.changes import Change, Kind, changes
from napari_fossiledit.evaluation.compare import Comparison, compare, worse
from napari_fossiledit.evaluation.figures import Evaluation, evaluate
from napari_fossiledit.evaluation.judged import JudgedSlice, judge, judged_area

__all__ = [
    "Change",
    "Comparison",
    "Evaluation",
    "JudgedSlice",
    "Kind",
    "changes",
    "compare",
    "evaluate",
    "judge",
    "judged_area",
    "worse",
]
