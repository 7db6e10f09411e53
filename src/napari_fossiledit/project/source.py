"""The source of instances: who says that they are there."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

ANNOTATIONS = "annotations"
LABELS = "labels"
MODEL = "model"
PASS = "pass"

_DIGITS = 12


@dataclass(frozen=True)
class Source:
    """One origin of instances; its text is the key of its rows in the ledger.

    Attributes
    ----------
    kind
        ``"annotations"`` (the user's set), ``"labels"`` (what ``labels.zarr`` of an earlier version
        showed), ``"model"`` (predictions) or ``"pass"`` (what predictions that look at neighbouring
        slices are made from; no user asked for it). Any other text is a source of its own.
    model
        Name of the model that predicted; empty for other sources.
    digest
        Of the model's weights and the settings it predicted with; empty for other sources.

    Examples
    --------
    >>> source = Source.parse("model:first:0123456789ab")
    >>> source.model, str(source), source.title
    ('first', 'model:first:0123456789ab', 'first (0123456)')
    """

    kind: str
    model: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Source:
        """Return the source of a text of the ledger."""
        kind, _, rest = text.partition(":")
        # The digest has no colon, the name of a model may have one.
        model, _, digest = rest.rpartition(":")
        return cls(kind, model, digest) if kind in (MODEL, PASS) and model else cls(text)

    @classmethod
    def predicted(cls, model: str, model_hash: str, settings: str) -> Source:
        """Return the source of the predictions of a model with one choice of settings.

        Other weights or settings give another source, so that stored predictions never change.
        """
        digest = hashlib.sha256(f"{model_hash}:{settings}".encode()).hexdigest()[:_DIGITS]
        return cls(MODEL, model, digest)

    def __str__(self) -> str:
        return f"{self.kind}:{self.model}:{self.digest}" if self.model else self.kind

    @property
    def is_prediction(self) -> bool:
        """True where a model found the instances and a user asked for them."""
        return self.kind == MODEL

    @property
    def title(self) -> str:
        """The source as it is shown to the user."""
        return f"{self.model} ({self.digest[:7]})" if self.is_prediction else str(self)

    @property
    def file_name(self) -> str:
        """The source as a part of a file name."""
        return str(self).replace(":", "-")
