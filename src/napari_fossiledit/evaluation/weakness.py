"""Which weakness of a model costs most, and what to do about it, in words.

Three kinds are told apart, as in the model-editing paper: confusion between classes (a
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
from napari_fossiledit.evaluation.hallucinated import Hallucinated
from napari_fossiledit.evaluation.judged import JudgedSlice
from napari_fossiledit.evaluation.numbers import Spread, percent, ratio
from napari_fossiledit.evaluation.pixels import pixels
from napari_fossiledit.evaluation.protocol import ProtocolResult, protocol
from napari_fossiledit.evaluation.report import by_texture
from napari_fossiledit.masks.rle import union
from napari_fossiledit.params.perturb import Preset

NOTEWORTHY = 0.01
"""A weakness that costs less than this share is none."""

LEAST_TRUTHS = 3
"""A texture with fewer true instances than this is not judged."""

_FALSE_SHARE = 0.5


class Topic(StrEnum):
    """Kinds of weakness."""

    CLASSES = "between classes"
    TEXTURES = "within the class"
    SURROUNDINGS = "surroundings"


@dataclass(frozen=True)
class Finding:
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

    def summary(self) -> dict[str, object]:
        """Values for JSON."""
        return {**vars(self), "topic": str(self.topic)}


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
        """Share of the predicted pixels that lie on a class, or on the background."""
        pixels_on = self.background if name == BACKGROUND else self.on.get(name, 0)
        return ratio(pixels_on, self.predicted) or 0.0

    def summary(self) -> dict[str, object]:
        """Values for JSON: shares of the predicted pixels."""
        return {
            "predicted_area": self.predicted,
            "share_on": {name: self.share(name) for name in self.on},
            "share_of_false_finds_on_background": self.share(BACKGROUND),
        }


@dataclass(frozen=True)
class Evidence:
    """What probing found out.

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
        What was found with all fossils hidden; None where that was not tried.
    """

    class_name: str
    original: ProtocolResult
    mistaken: Mistaken
    comparisons: Mapping[Preset, Comparison]
    hidden: Hallucinated | None = None

    def delta(self, preset: Preset, name: str) -> Spread:
        """Difference that a perturbation makes; undefined where it was not tried."""
        tried = self.comparisons.get(preset)
        return Spread(None, None) if tried is None else tried.deltas[name]


def mistaken(slices: Sequence[JudgedSlice], *, score: float = 0.5) -> Mistaken:
    """Look where the predictions from `score` up are wrong."""
    figures = pixels(slices, score=score)
    background = sum(_false_background(s, score) for s in slices)
    return Mistaken(figures.predicted, dict(figures.invented_on), background)


def evidence(
    class_name: str,
    slices: Sequence[JudgedSlice],
    comparisons: Mapping[Preset, Comparison],
    hidden: Hallucinated | None,
    *,
    score: float = 0.5,
    seed: int = 0,
) -> Evidence:
    """Gather what is known at one score threshold.

    Parameters
    ----------
    slices
        The unperturbed slices.
    comparisons, hidden
        See `Evidence`; at the same threshold.
    """
    original = protocol(slices, score=score, seed=seed)
    return Evidence(class_name, original, mistaken(slices, score=score), comparisons, hidden)


def findings(known: Evidence) -> tuple[Finding, ...]:
    """Tell all weaknesses, the costliest first."""
    told = [_between_classes(known), _within_class(known), _surroundings(known)]
    return tuple(sorted((f for f in told if f is not None), key=lambda f: -f.cost))


def verdict(found: Sequence[Finding]) -> str:
    """Say which weakness is largest, and the figure that makes it so."""
    if not found or found[0].cost < NOTEWORTHY:
        return "No weakness stands out on these slices."
    return f"The largest weakness is {found[0].title}: {found[0].reason}."


def _false_background(judged: JudgedSlice, score: float) -> int:
    """Pixels of false finds that lie neither on a truth nor on another class."""
    used = judged.above(score)
    wrong = judged.on_truth[:used] < _FALSE_SHARE * judged.areas[:used]
    finds = zip(judged.predictions, wrong, strict=False)
    area = union((p.mask for p, w in finds if w), judged.shape)
    known = union([judged.truth, *judged.others.values()], judged.shape)
    return area.area - (area & known).area


def _between_classes(known: Evidence) -> Finding | None:
    hidden = known.hidden or Hallucinated()
    names = (set(known.mistaken.on) | set(hidden.shares)) - {BACKGROUND, known.class_name}
    if not names:
        return None
    name = max(sorted(names), key=lambda n: _invented(known, n)[0])
    cost, reason = _invented(known, name)
    words = [
        f"{percent(known.mistaken.share(name))} of the predicted area lies on {name}.",
        _told_hidden(known, name),
        _told_change(known, Preset.BACKGROUND_TO_MUD, "precision"),
    ]
    advice = (
        f"Edit the model on a slice with much {name}, with background-to-mud or the steps"
        f" 'class {name} -> mud', and judge it on pinned slices; or trace {name} on more slices"
        " and train it as a class of its own."
    )
    title = f"the confusion with {name}"
    return Finding(Topic.CLASSES, name, cost, title, reason, _joined(words), advice)


def _within_class(known: Evidence) -> Finding | None:
    parts = {
        name: part.recall_all.mean or 0.0
        for name, part in by_texture(known.original).items()
        if len(part.truths) >= LEAST_TRUTHS
    }
    if len(parts) < 2:
        return None
    worst, best = (pick(parts, key=lambda n: parts[n]) for pick in (min, max))
    missing = parts[best] - (known.original.recall_all.mean or 0.0)
    rise = _risen_with_texture(known, worst)
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
        _told_change(known, Preset.FOSSILS_TO_TEXTURE, "recall_all"),
    ]
    advice = (
        f"Trace more {_spoken(worst)} fossils on further slices and train on them. Edits towards"
        " the pitted texture never helped in the paper: try one last."
    )
    title = f"that {_spoken(worst)} fossils are missed"
    return Finding(Topic.TEXTURES, worst, cost, title, reason, _joined(words), advice)


def _risen_with_texture(known: Evidence, texture: str) -> float:
    """Recall over all truths that is won where the pitted texture helps those of one texture."""
    tried = known.comparisons.get(Preset.FOSSILS_TO_TEXTURE)
    part = None if tried is None else tried.textures.get(texture)
    if tried is None or part is None:
        return 0.0
    share = len(part.before.truths) / len(tried.before.truths)
    return share * (part.deltas["recall_all"].mean or 0.0)


def _surroundings(known: Evidence) -> Finding:
    invented, lost = _invented(known, BACKGROUND), _lost_with_surroundings(known)
    words = [
        f"{percent(known.mistaken.share(BACKGROUND))} of the predicted area are false finds on"
        " nothing that is annotated.",
        _told_hidden(known, BACKGROUND),
        _told_change(known, Preset.BACKGROUND_TO_MUD, "recall_all"),
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


def _invented(known: Evidence, name: str) -> tuple[float, str]:
    """Tell what finds on a class, or on the background, cost: the larger of two figures."""
    where = f"on {name}" if name else "on nothing annotated"
    seen = known.mistaken.share(name)
    wrong = seen, f"{percent(seen)} of the predicted area lies {where}"
    if known.hidden is None:
        return wrong
    share = known.hidden.on_class(name)
    framed = f"{where} or framed by it" if name else where
    return max(
        wrong,
        (share, f"with the fossils hidden, {percent(share)} of their area is found {framed}"),
    )


def _lost_with_surroundings(known: Evidence) -> tuple[float, str]:
    lost = -(known.delta(Preset.BACKGROUND_TO_MUD, "recall_all").mean or 0.0)
    return lost, f"with everything else filled with mud recall is {lost:.3f} lower"


def _told_hidden(known: Evidence, name: str) -> str:
    """Say what was found with the fossils hidden, and how much of it comes from a class."""
    hidden = known.hidden
    if hidden is None or not hidden.fossils:
        return ""
    if not hidden.area:
        return f"With every {known.class_name} hidden under mud the model finds nothing."
    where = f"lies on {name} or is framed by it" if name else "lies on nothing that is annotated"
    return (
        f"With every {known.class_name} hidden under mud the model still finds"
        f" {len(hidden.instances)}, with {percent(hidden.ratio)} of the area of the hidden ones;"
        f" {percent(hidden.shares.get(name, 0.0))} of that {where}."
    )


_DONE = {
    Preset.BACKGROUND_TO_MUD: "With everything else filled with mud",
    Preset.FOSSILS_TO_TEXTURE: "With every fossil filled with the pitted texture",
}
_FIGURES = {"precision": "precision", "recall_all": "recall over all truths"}


def _told_change(known: Evidence, preset: Preset, name: str) -> str:
    """Say how a figure changes under a perturbation."""
    tried = known.comparisons.get(preset)
    if tried is None:
        return ""
    old, new = (getattr(r, name).mean for r in (tried.before, tried.after))
    if old is None or new is None:
        return ""
    goes = "rises" if new > old else "falls"
    told = f"{_DONE[preset]} {_FIGURES[name]} {goes} from {old:.3f} to {new:.3f}"
    interval = tried.deltas[name].interval
    if interval is None:
        return f"{told}."
    return f"{told} ({new - old:+.3f}, 95 % interval {interval[0]:+.3f} to {interval[1]:+.3f})."


def _spoken(word: str) -> str:
    """Write the word of a texture as people do."""
    return word.replace("_", "-")


def _joined(sentences: Sequence[str]) -> str:
    return " ".join(s for s in sentences if s)
