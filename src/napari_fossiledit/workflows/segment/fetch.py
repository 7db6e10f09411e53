"""Fetch published weights that a training may start from; nothing else needs a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_fossiledit.errors import FossilError
from napari_fossiledit.exchange.download import MB, download
from napari_fossiledit.files import file_digest, read_json, write_json
from napari_fossiledit.models.files.published import COCO, RECORD_OF_FETCH, place_of
from napari_fossiledit.params.segment import CocoWeights, FetchParams
from napari_fossiledit.progress import QUIET, Job
from napari_fossiledit.summary import Summary


@dataclass(frozen=True)
class FetchedModel(Summary):
    """Weights that lie in the cache.

    Attributes
    ----------
    model
        Their name, which ``train --init`` takes.
    notes
        Licence, and what was checked, in sentences for the user.
    """

    model: str
    folder: Path
    file: str
    size: int
    sha256: str
    url: str
    notes: tuple[str, ...]


def about(name: CocoWeights) -> str:
    """Return size, origin and terms of published weights, to be told before they are fetched."""
    known = COCO[name]
    return f"{name}: {known.size // MB} MB from {known.url}. Licence: {known.licence}."


def run(params: FetchParams, *, job: Job = QUIET) -> FetchedModel:
    """Fetch weights from their maker into the user's cache; a second time only checks them.

    Raises
    ------
    FossilError
        See `download`; the cache then holds the whole file of before, or none.
    """
    name, known, file = params.name, COCO[params.name], place_of(params.name)
    job.report(0, 0, about(name))
    record = file.with_name(RECORD_OF_FETCH)
    sha256 = file_digest(file, "sha256") if file.is_file() else ""
    if sha256 and sha256 == _recorded(record):
        told = "It had been fetched before and is unchanged; nothing was downloaded."
    else:
        sha256 = download(known.url, file, known.size, known.digest, job)
        write_json(record, {"url": known.url, "sha256": sha256, "licence": known.licence})
        method, _, digits = known.digest.partition(":")
        told = (
            f"Its {method} begins with {digits}, as its maker says (no more of it is published);"
            f" its SHA-256 was recorded in {record.name}."
        )
    notes = (f"Licence: {known.licence}.", told, f"Start from it with 'train --init {name}'.")
    size = file.stat().st_size
    return FetchedModel(name, file.parent, file.name, size, sha256, known.url, notes)


def _recorded(record: Path) -> str:
    """Return the SHA-256 that was written down at the last fetch; empty: none."""
    try:
        content: Any = read_json(record, "the record of a fetch")
    except FossilError:
        return ""
    return str(content.get("sha256", "")) if isinstance(content, dict) else ""
