"""The one error type that is meant for the user's eyes."""

from __future__ import annotations

from typing import Self


class FossilError(Exception):
    """Something the user can act upon: bad input, a full disk, a cancelled job.

    Deliberately not a ``RuntimeError``: superqt's generator workers swallow those.

    Parameters
    ----------
    message
        What is wrong, naming the file, slice or layer.
    expected, found
        What was expected and what was found instead, where that applies.
    advice
        What to do next, in one sentence.
    """

    def __init__(
        self,
        message: str,
        *,
        expected: object = None,
        found: object = None,
        advice: str = "",
    ) -> None:
        self.message = message
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else str(found)
        self.advice = advice
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.message.rstrip(".")]
        if self.expected is not None:
            parts.append(f"expected {self.expected}")
        if self.found is not None:
            parts.append(f"found {self.found}")
        text = "; ".join(parts) + "."
        return f"{text} {self.advice}" if self.advice else text

    def __reduce__(self) -> tuple[object, ...]:
        """Travel between processes with every field intact."""
        return (_rebuild, (type(self), self.message, self.expected, self.found, self.advice))

    @classmethod
    def rebuild(cls, message: str, expected: object, found: object, advice: str) -> Self:
        """Make the error again from its fields (the inverse of pickling)."""
        return cls(message, expected=expected, found=found, advice=advice)


def _rebuild(
    kind: type[FossilError], message: str, expected: object, found: object, advice: str
) -> FossilError:
    return kind.rebuild(message, expected, found, advice)


class CancelledError(FossilError):
    """The user stopped a job; what was finished before is kept."""
