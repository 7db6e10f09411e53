"""All figures of an evaluation together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from napari_fossiledit.evaluation.ap import AveragePrecision, average_precision
from napari_fossiledit.evaluation.detection import DetectionResult, detection
from napari_fossiledit.evaluation.judged import MAX_DETECTIONS, JudgedSlice
from napari_fossiledit.evaluation.pixels import PixelResult, pixels
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol


@dataclass(frozen=True)
class Evaluation:
    """Figures of predictions against truths.

    Attributes
    ----------
    slices
        Indices of the slices that were judged.
    protocol
        The paper's protocol at `score`.
    textures
        The same for the truths of each texture; ``"unknown"`` where none is noted.
    detection, pixels
        At `detection_score`.
    ap
        COCO's average precision, over all scores.
    left_out
        Numbers of truths (unsure, or outside the area) and of predictions that were left out.
    score, detection_score
        The two thresholds.
    """

    slices: tuple[int, ...]
    protocol: ProtocolResult
    textures: dict[str, ProtocolResult]
    detection: DetectionResult
    pixels: PixelResult
    ap: AveragePrecision
    left_out: tuple[int, int]
    score: float
    detection_score: float

    def summary(self) -> dict[str, object]:
        """Figures for JSON; None where undefined, never NaN."""
        return {
            "slices": list(self.slices),
            "score": self.score,
            "detection_score": self.detection_score,
            "protocol": self.protocol.summary(),
            "textures": {name: _texture_summary(r) for name, r in self.textures.items()},
            "detection": self.detection.summary(),
            "pixels": self.pixels.summary(),
            "coco": self.ap.summary(),
            "left_out": {"truths": self.left_out[0], "predictions": self.left_out[1]},
        }


def evaluate(
    slices: Iterable[JudgedSlice],
    *,
    score: float = 0.0,
    detection_score: float = 0.5,
    max_detections: int = MAX_DETECTIONS,
    seed: int = 0,
) -> Evaluation:
    """Compute all figures.

    Parameters
    ----------
    slices
        Slices reduced to what counts (see `judge`); of each only run-length codes are kept.
    score
        Threshold of the paper's protocol, 0 in the paper.
    detection_score
        Threshold of the detection and the pixel figures.
    max_detections
        Most predictions a slice, as given to `judge`.
    seed
        Seed of the bootstrap intervals.
    """
    judged = list(slices)
    paper = protocol(judged, score=score, seed=seed)
    return Evaluation(
        tuple(s.slice for s in judged),
        paper,
        by_texture(paper),
        detection(judged, score=detection_score),
        pixels(judged, score=detection_score),
        average_precision(judged, max_detections=max_detections),
        (sum(s.left_out[0] for s in judged), sum(s.left_out[1] for s in judged)),
        score,
        detection_score,
    )


def by_texture(result: ProtocolResult) -> dict[str, ProtocolResult]:
    """Split a result by the texture of its truths; empty where no texture is noted at all."""
    names = sorted({t.texture for t in result.truths})
    return {} if names in ([], [""]) else {n or "unknown": result.only(n) for n in names}


def _texture_summary(result: ProtocolResult) -> dict[str, object]:
    """Figures of one texture, without the counts of predictions, which have no texture."""
    figures = result.summary()
    return {k: v for k, v in figures.items() if k not in ("predictions", "spurious")}
