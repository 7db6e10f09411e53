"""Predictions against truth: the paper's protocol, detection figures, pixels, COCO's AP."""

from napari_fossiledit.evaluation.judged import JudgedSlice, judge, judged_area
from napari_fossiledit.evaluation.report import Evaluation, evaluate

__all__ = ["Evaluation", "JudgedSlice", "evaluate", "judge", "judged_area"]
