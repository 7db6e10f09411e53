"""The error type whose text is shown to the user."""

from __future__ import annotations

from functools import partial


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
        # Exceptions are pickled by their args alone, which here are the whole text.
        rebuild = partial(type(self), expected=self.expected, found=self.found, advice=self.advice)
        return (rebuild, (self.message,))


class CancelledError(FossilError):
    """The user stopped a job; what was finished before is kept."""
