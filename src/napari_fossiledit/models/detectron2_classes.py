"""Names of classes for models that know numbers only, and which of them to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from napari_fossiledit.errors import FossilError
from napari_fossiledit.models.detectron2_names import BOXES, MASKS, SCORES

Classes = Sequence[str] | Mapping[int, str] | None
"""A name for each class in order, or number (from 0) and name of those to keep."""

_COCO = (
    "person bicycle car motorcycle airplane bus train truck boat traffic_light fire_hydrant "
    "stop_sign parking_meter bench bird cat dog horse sheep cow elephant bear zebra giraffe "
    "backpack umbrella handbag tie suitcase frisbee skis snowboard sports_ball kite baseball_bat "
    "baseball_glove skateboard surfboard tennis_racket bottle wine_glass cup fork knife spoon bowl "
    "banana apple sandwich orange broccoli carrot hot_dog pizza donut cake chair couch "
    "potted_plant bed dining_table toilet tv laptop mouse remote keyboard cell_phone microwave "
    "oven toaster sink refrigerator book clock vase scissors teddy_bear hair_drier toothbrush"
)


def parse_classes(text: str) -> Classes:
    """Read ``a, b`` (all classes in order) or ``0=a, 3=b`` (those to keep); empty: None.

    Raises
    ------
    FossilError
        Where a number is none or is given twice, or the two forms are mixed.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return tuple(parts) or None
    pairs = [(n.strip(), name.strip()) for n, _, name in (p.partition("=") for p in parts)]
    if any(not n.isdecimal() or not name for n, name in pairs) or len(dict(pairs)) < len(pairs):
        raise FossilError(
            f"{text!r} does not say which class is which",
            expected="names in order (a, b), or numbers and names (0=a, 3=b), each number once",
        )
    return {int(n): name for n, name in pairs}


def named_classes(wanted: Classes, count: int, where: str) -> dict[int, str]:
    """Give classes their names.

    Returns
    -------
    number (from 0) and name of each class to keep

    Raises
    ------
    FossilError
        Where there are other classes than those named, or two have the same name.
    """
    if wanted is None:
        return dict(enumerate(_usual(count)))
    named = dict(wanted) if isinstance(wanted, Mapping) else dict(enumerate(wanted))
    wrong = [n for n in named if not 0 <= n < count]
    incomplete = not isinstance(wanted, Mapping) and len(named) != count
    if wrong or incomplete or not named:
        raise _other_number(named, count, where)
    if len(set(named.values())) < len(named):
        raise FossilError(
            f"Two classes of {where} would have the same name",
            expected="a name for each",
            found=", ".join(named.values()),
        )
    return named


def _usual(count: int) -> list[str]:
    """Names of COCO's classes, or numbers."""
    coco = [name.replace("_", " ") for name in _COCO.split()]
    return coco if count == len(coco) else [f"class {n}" for n in range(count)]


def _other_number(named: Mapping[int, str], count: int, where: str) -> FossilError:
    first = next(iter(named.values()), "name")
    return FossilError(
        f"{where} has other classes than those named",
        expected=f"{count} names in the model's order, or numbers from 0 to {count - 1} with names",
        found=", ".join(f"{n}={name}" for n, name in named.items()) or "none",
        advice=f"Name all {count}, or keep some of them, e.g. 0={first}.",
    )


def keep_classes(weights: Mapping[str, Tensor], kept: Sequence[int]) -> dict[str, Tensor]:
    """Keep the outputs of the classes with these numbers, in this order, and the background.

    The scores of what stays change: probabilities add up to one over fewer classes.
    """
    rows = torch.tensor([0, *(n + 1 for n in kept)])
    boxes = (rows[:, None] * 4 + torch.arange(4)).flatten()
    chosen = {SCORES: rows, MASKS: rows, BOXES: boxes}
    return {
        name: value[chosen[layer]] if (layer := name.rpartition(".")[0]) in chosen else value
        for name, value in weights.items()
    }
