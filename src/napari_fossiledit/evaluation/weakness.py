"""The weaknesses of a model, what each costs and what to do about it, in words.

Three kinds are distinguished, as in the model-editing paper: confusion between classes (a
calcimicrobe taken for an archaeocyathid), variation within the class (one texture found less
often than another), and the surroundings (finds on the background, fossils lost with what is
around them). Each is weighed by what it costs: area found without reason, as a share of all that is
found or of the fossils, or recall that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from napari_fossiledit.evaluation.changes import BACKGROUND
from napari_fossiledit.evaluation.compare import Comparison
from napari_fossiledit.evaluation.figures import by_texture, pixels
from napari_fossiledit.evaluation.hallucinated import Hallucinated
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Spread, percent, ratio
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.perturb import Preset
from napari_fossiledit.summary import Summary

NOTEWORTHY = 0.01
"""A weakness that costs less than this share is none."""

LEAST_TRUTHS = 3
"""A texture with fewer true instances than this is not judged."""

#: A prediction of which less than this share is true is a false find.
_FALSE_SHARE = 0.5


class Topic(StrEnum):
    """Kinds of weakness."""

    CLASSES = "between classes"
    TEXTURES = "within the class"
    SURROUNDINGS = "surroundings"


@dataclass(frozen=True)
class Finding(Summary):
    """One weakness.

    Attributes
    ----------
    topic
        Its kind.
    about
        The other class, or the texture; empty where neither is meant.
    cost
        What it costs, as a share of the area found, of the fossils' area, or of their number.
    title, reason
        What it is, and the figure behind `cost`.
    words, advice
        All figures that belong to it, and what to do next.
    """

    topic: Topic
    about: str
    cost: float
    title: str
    reason: str
    words: str
    advice: str


@dataclass(frozen=True)
class Mistaken:
    """Where predictions on unperturbed slices are wrong.

    Attributes
    ----------
    predicted
        Pixels of the union of all predictions.
    on
        Predicted pixels that are not true, by the annotated class they lie on.
    background
        Those on no class, of predictions of which less than half is true: what remains is the
        blur of outlines.
    """

    predicted: int
    on: dict[str, int]
    background: int

    def share(self, name: str) -> float:
        """Return the share of the predicted pixels that lie on a class, or on the background."""
        pixels_on = self.background if name == BACKGROUND else self.on.get(name, 0)
        return ratio(pixels_on, self.predicted) or 0.0

    @property
    def main(self) -> tuple[str, float]:
        """Class, or `BACKGROUND`, that most of the wrong area lies on, and its share of that."""
        wrong = {**self.on, BACKGROUND: self.background}
        name = max(sorted(wrong), key=lambda n: wrong[n])
        return name, ratio(wrong[name], sum(wrong.values())) or 0.0

    def summary(self) -> dict[str, object]:
        """Return the values for JSON: shares of the predicted pixels."""
        return {
            "predicted_area": self.predicted,
            "share_on": {name: self.share(name) for name in self.on},
            "share_of_false_finds_on_background": self.share(BACKGROUND),
        }


@dataclass(frozen=True)
class Evidence:
    """Results of probing.

    Attributes
    ----------
    class_name
        The fossils.
    original
        The paper's protocol on the unperturbed slices.
    mistaken
        Errors on the unperturbed slices.
    comparisons
        Figures before and after each perturbation that leaves the fossils to be found.
    hidden
        Finds with all fossils hidden; None where that was not tried.
    """

    class_name: str
    original: ProtocolResult
    mistaken: Mistaken
    comparisons: Mapping[Preset, Comparison]
    hidden: Hallucinated | None = None

    def delta(self, preset: Preset, name: str) -> Spread:
        """Return the difference that a perturbation makes; undefined where it was not tried."""
        tried = self.comparisons.get(preset)
        return Spread(None, None) if tried is None else tried.deltas[name]


def mistaken(slices: Sequence[JudgedSlice], *, score: float = 0.5) -> Mistaken:
    """Measure where the predictions of at least `score` are wrong."""
    figures = pixels(slices, score=score)
    background = 0
    for judged in slices:
        used = judged.above(score)
        wrong = judged.on_truth[:used] < _FALSE_SHARE * judged.areas[:used]
        finds = zip(judged.predictions, wrong, strict=False)
        false = union((find.mask for find, is_wrong in finds if is_wrong), judged.shape)
        annotated = union([judged.truth, *judged.others.values()], judged.shape)
        background += false.area - (false & annotated).area
    return Mistaken(figures.predicted, dict(figures.invented_on), background)


def gather_evidence(
    class_name: str,
    slices: Sequence[JudgedSlice],
    comparisons: Mapping[Preset, Comparison],
    hidden: Hallucinated | None,
    *,
    score: float = 0.5,
    seed: int = 0,
) -> Evidence:
    """Gather the results at one score threshold.

    Parameters
    ----------
    slices
        The unperturbed slices.
    comparisons, hidden
        See `Evidence`; at the same threshold.
    """
    original = protocol(slices, score=score, seed=seed)
    return Evidence(class_name, original, mistaken(slices, score=score), comparisons, hidden)


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Return all weaknesses, the costliest first."""
    kinds = [_between_classes(evidence), _within_class(evidence), _surroundings(evidence)]
    return tuple(sorted((f for f in kinds if f is not None), key=lambda f: -f.cost))


def verdict(ranked: Sequence[Finding]) -> str:
    """Return a sentence that names the largest weakness, and the figure behind it."""
    if not ranked or ranked[0].cost < NOTEWORTHY:
        return "No weakness stands out on these slices."
    return f"The largest weakness is {ranked[0].title}: {ranked[0].reason}."


def _between_classes(evidence: Evidence) -> Finding | None:
    hidden = evidence.hidden or Hallucinated()
    names = (set(evidence.mistaken.on) | set(hidden.shares)) - {BACKGROUND, evidence.class_name}
    if not names:
        return None
    name = max(sorted(names), key=lambda n: _invented(evidence, n)[0])
    cost, reason = _invented(evidence, name)
    words = [
        f"{percent(evidence.mistaken.share(name))} of the predicted area lies on {name}.",
        _hidden_words(evidence, name),
        _change_words(evidence, Preset.BACKGROUND_TO_MUD, "precision"),
    ]
    advice = (
        f"Edit the model on a slice with much {name}, with background-to-mud or the steps"
        f" 'class {name} -> mud', and judge it on pinned slices; or trace {name} on more slices"
        " and train it as a class of its own."
    )
    title = f"the confusion with {name}"
    return Finding(Topic.CLASSES, name, cost, title, reason, _joined(words), advice)


def _within_class(evidence: Evidence) -> Finding | None:
    parts = {
        name: part.recall_all.mean or 0.0
        for name, part in by_texture(evidence.original).items()
        if len(part.truths) >= LEAST_TRUTHS
    }
    if len(parts) < 2:
        return None
    worst, best = (pick(parts, key=lambda n: parts[n]) for pick in (min, max))
    missing = parts[best] - (evidence.original.recall_all.mean or 0.0)
    rise = 0.0
    tried = evidence.comparisons.get(Preset.FOSSILS_TO_TEXTURE)
    part = None if tried is None else tried.textures.get(worst)
    if tried is not None and part is not None:
        # Recall over all truths that is won where the pitted texture helps those of one texture.
        share = len(part.before.truths) / len(tried.before.truths)
        rise = share * (part.deltas["recall_all"].mean or 0.0)
    cost, reason = max(
        (
            missing,
            f"were all found like {_spoken(best)} ones, recall would be {missing:.3f} higher",
        ),
        (rise, f"with pitted texture on those alone recall would be {rise:.3f} higher"),
    )
    words = [
        f"Recall over all truths is {parts[worst]:.3f} for {_spoken(worst)} and"
        f" {parts[best]:.3f} for {_spoken(best)} ones.",
        _change_words(evidence, Preset.FOSSILS_TO_TEXTURE, "recall_all"),
    ]
    advice = (
        f"Trace more {_spoken(worst)} fossils on further slices and train on them. Edits towards"
        " the pitted texture never helped in the paper: try one last."
    )
    title = f"that {_spoken(worst)} fossils are missed"
    return Finding(Topic.TEXTURES, worst, cost, title, reason, _joined(words), advice)


def _surroundings(evidence: Evidence) -> Finding:
    invented = _invented(evidence, BACKGROUND)
    fall = -(evidence.delta(Preset.BACKGROUND_TO_MUD, "recall_all").mean or 0.0)
    lost = fall, f"with everything else filled with mud recall is {fall:.3f} lower"
    words = [
        f"{percent(evidence.mistaken.share(BACKGROUND))} of the predicted area are false finds on"
        " nothing that is annotated.",
        _hidden_words(evidence, BACKGROUND),
        _change_words(evidence, Preset.BACKGROUND_TO_MUD, "recall_all"),
    ]
    if lost[0] > invented[0]:
        title = "that fossils are lost together with their surroundings"
        advice = (
            "The model leans on what is around a fossil: edit with background-to-mud at part of"
            " the strength only, with preserved slices, and mind the recall."
        )
    else:
        title = "finds on the background"
        advice = (
            "Edit the model with background-to-mud on a slice with such finds, or trace one of"
            " those slices completely and train on it."
        )
    cost, reason = max(invented, lost)
    return Finding(Topic.SURROUNDINGS, "", cost, title, reason, _joined(words), advice)


def _invented(evidence: Evidence, name: str) -> tuple[float, str]:
    """Cost of finds on a class, or on the background: the larger of two figures, in words too."""
    where = f"on {name}" if name else "on nothing annotated"
    seen = evidence.mistaken.share(name)
    wrong = seen, f"{percent(seen)} of the predicted area lies {where}"
    if evidence.hidden is None:
        return wrong
    share = evidence.hidden.on_class(name)
    framed = f"{where} or framed by it" if name else where
    return max(
        wrong,
        (share, f"with the fossils hidden, {percent(share)} of their area is found {framed}"),
    )


def _hidden_words(evidence: Evidence, name: str) -> str:
    """Write what was found with the fossils hidden, and how much of it comes from a class."""
    hidden = evidence.hidden
    if hidden is None or not hidden.fossils:
        return ""
    if not hidden.area:
        return f"With every {evidence.class_name} hidden under mud the model finds nothing."
    where = f"lies on {name} or is framed by it" if name else "lies on nothing that is annotated"
    return (
        f"With every {evidence.class_name} hidden under mud the model still finds"
        f" {len(hidden.instances)}, with {percent(hidden.ratio)} of the area of the hidden ones;"
        f" {percent(hidden.shares.get(name, 0.0))} of that {where}."
    )


_DONE = {
    Preset.BACKGROUND_TO_MUD: "With everything else filled with mud",
    Preset.FOSSILS_TO_TEXTURE: "With every fossil filled with the pitted texture",
}
_FIGURES = {"precision": "precision", "recall_all": "recall over all truths"}


def _change_words(evidence: Evidence, preset: Preset, name: str) -> str:
    """Write how a figure changes under a perturbation."""
    tried = evidence.comparisons.get(preset)
    if tried is None:
        return ""
    old, new = (getattr(r, name).mean for r in (tried.before, tried.after))
    if old is None or new is None:
        return ""
    goes = "rises" if new > old else "falls"
    change = f"{_DONE[preset]} {_FIGURES[name]} {goes} from {old:.3f} to {new:.3f}"
    interval = tried.deltas[name].interval
    if interval is None:
        return f"{change}."
    return f"{change} ({new - old:+.3f}, 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})."


def _spoken(word: str) -> str:
    """Write the word of a texture as people do."""
    return word.replace("_", "-")


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(s for s in sentences if s)
