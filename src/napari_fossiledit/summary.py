"""Results as plain values: what a command prints with ``--json`` and what a run records."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel


def plain(value: Any) -> Any:
    """Return `value` as JSON-able values.

    Dataclasses become dictionaries by field, or what their own ``summary()`` returns; paths become
    texts, enumerations their values, tuples and sets lists, numpy scalars Python's.
    """
    if hasattr(value, "summary"):
        return value.summary()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    return value.item() if hasattr(value, "item") else value


class Summary:
    """A result of a workflow that is a dataclass and can be printed.

    A class whose JSON keys are not its fields overrides `summary`, e.g. with
    ``super().summary() | {"seconds": round(self.seconds, 2)}``.
    """

    def summary(self) -> dict[str, Any]:
        """Return the result as JSON-able values, by field."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}  # type: ignore[arg-type]  # only dataclasses inherit it
