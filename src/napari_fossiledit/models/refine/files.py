"""Read and write a refiner: ``refiner.safetensors`` and ``refiner.json`` in a folder."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError
from safetensors.torch import save

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import explained, read_json, write_json, write_whole
from napari_fossiledit.models.files.checkpoint import fill, read_tensors
from napari_fossiledit.models.refine.refiner import Refiner, RefinerRecord, pixel_network

WEIGHTS, RECORD = "refiner.safetensors", "refiner.json"
_AGAIN = "Fit it again: 'fossiledit refine PROJECT --model NAME'."


def save_refiner(refiner: Refiner, folder: Path) -> RefinerRecord:
    """Write the weights and then the record, each in one step."""
    record = refiner.record.model_copy(update={"refiner_hash": refiner.hash})
    write_whole(folder / WEIGHTS, save(refiner.weights()))
    write_json(folder / RECORD, record.model_dump(mode="json"))
    return record


def read_refiner_record(folder: Path, model: str, model_hash: str) -> RefinerRecord:
    """Read ``refiner.json`` alone.

    Parameters
    ----------
    model, model_hash
        The model whose masks are to be refined.

    Raises
    ------
    FossilError
        Where there is none, it cannot be read, or it was fitted for another model.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FossilError(
            f"The model {model!r} has no refiner yet",
            expected=path,
            found="no such file",
            advice=f"Fit one on traced slices: 'fossiledit refine PROJECT --model {model}'.",
        )
    try:
        record = RefinerRecord.model_validate_json(
            json.dumps(read_json(path, "the record of a refiner"))
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise FossilError(
            f"{path} is not the record of a refiner",
            expected="fields as this program writes them",
            found=f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}",
            advice=_AGAIN,
        ) from error
    if record.model_hash != model_hash:
        raise FossilError(
            f"The refiner in {folder} was fitted for another model than {model!r}",
            expected=f"a refiner of the model with hash {model_hash[:12]}",
            found=f"one of {record.model_hash[:12]}",
            advice=_AGAIN,
        )
    return record


def load_refiner(folder: Path, record: RefinerRecord) -> Refiner:
    """Load the weights that belong to a record.

    Raises
    ------
    FossilError
        Where they are missing, damaged or not the ones recorded.
    """
    path = folder / WEIGHTS
    with explained(path, "Reading"):
        tensors = read_tensors(path.read_bytes(), str(path))
    networks = {}
    for number, name in enumerate(record.classes):
        network, start = pixel_network(), f"{number}."
        own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        fill(network, own, str(path))
        networks[name] = network.requires_grad_(False).eval()
    refiner = Refiner(record, networks)
    if refiner.hash != record.refiner_hash:
        raise FossilError(
            f"{path} does not belong to its {RECORD}",
            expected=f"weights with hash {record.refiner_hash[:12]}",
            found=refiner.hash[:12],
            advice=_AGAIN,
        )
    return refiner
