"""What a file of instances holds of what was written to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from napari_fossiledit.exchange.tracings.tracing_file import TracedSlice, TracingFile
from napari_fossiledit.geometry import format_slices
from napari_fossiledit.masks import Mask, Part

#: What is compared beside the pixels, and what it is called.
_FACTS = ("class_name", "specimen", "texture", "unsure", "score", "origin", "reviewed")
_WORDS = {"class_name": "class", "reviewed": "review", "parent": "body of a cavity"}
_Facts = dict[str, object]


@dataclass
class RoundTrip:
    """Comparison of what was written with what an import of the file reads.

    Attributes
    ----------
    written
        Instances that were written.
    same
        Those that come back with the same pixels and as the same part.
    identical
        Those of which all else comes back, too.
    changed
        What does not come back of those with the same pixels, and of how many.
    lost
        Bodies and cavities that come back with other pixels or not at all.
    extra
        How many come back that were not written.
    untraced
        Slices of which another area comes back as completely traced.
    """

    written: int = 0
    same: int = 0
    identical: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    lost: Counter[Part] = field(default_factory=Counter)
    extra: int = 0
    untraced: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, written: Iterable[TracedSlice], file: TracingFile) -> RoundTrip:
        """Compare slice by slice, two slices in memory at a time.

        Raises
        ------
        FossilError
            Where the file cannot be read.
        """
        trip = cls()
        slices = file.traced_slices()
        back = next(slices, None)
        for item in written:
            here = back is not None and back.z == item.z
            trip._add(item, back if back and here else TracedSlice(item.z, [], traced=False))
            if here:
                back = next(slices, None)
        return trip

    def _add(self, item: TracedSlice, back: TracedSlice) -> None:
        if (item.traced, item.area) != (back.traced, back.area):
            self.untraced.append(item.z)
        self.written += len(item.instances)
        found: dict[tuple[Part, Mask], list[_Facts]] = {}
        for (part, mask), facts in _described(back):
            found.setdefault((part, mask), []).append(facts)
        for key, facts in _described(item):
            if not (candidates := found.get(key)):
                self.lost[key[0]] += 1
                continue
            # Several may have the same pixels: each is compared with the one most like it.
            best = min(candidates, key=lambda other: len(_differing(facts, other)))
            candidates.remove(best)
            self.same += 1
            self.identical += facts == best
            self.changed.update(_differing(facts, best))
        self.extra += sum(map(len, found.values()))

    def sentences(self) -> list[str]:
        """Return what a user has to know."""
        told = [f"Read back: {self.same} of {self.written} masks are the same in every pixel."]
        if self.identical == self.written:
            told[0] = f"Read back: all {self.written} masks and what is known of them are the same."
        if self.changed:
            parts = (f"{_WORDS.get(fact, fact)} of {n}" for fact, n in self.changed.most_common())
            told.append(f"The file does not hold {', '.join(parts)} of them.")
        if self.lost:
            bodies, cavities = self.lost[Part.BODY], self.lost[Part.CAVITY]
            told.append(f"Missing or with other pixels: bodies {bodies}, cavities {cavities}.")
        if self.extra:
            told.append(f"Masks that come back and were not written so: {self.extra}.")
        if self.untraced:
            told.append(
                "Of these slices, another area comes back as completely traced: "
                f"{format_slices(self.untraced)}."
            )
        return told


def _described(item: TracedSlice) -> Iterable[tuple[tuple[Part, Mask], _Facts]]:
    masks = {i.id: i.mask for i in item.instances if i.id is not None}
    for i in item.instances:
        facts = {name: getattr(i, name) for name in _FACTS}
        facts["parent"] = None if i.parent is None else masks.get(i.parent)
        yield (i.part, i.mask), facts


def _differing(one: _Facts, other: _Facts) -> list[str]:
    return [name for name in one if one[name] != other[name]]
