"""Name the classes of models that have numbers only, and choose which of them to leave out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_fossiledit.errors import FossilError
from napari_fossiledit.files import plain_name
from napari_fossiledit.models.network.spec import LEFT_OUT

Classes = Sequence[str] | Mapping[int, str] | None
"""A name for each class in order (``-`` leaves one out), or number (from 0) and name of some."""

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
    """Read ``a, -`` (all classes in order) or ``0=a, 3=b`` (those to keep); empty: None.

    Raises
    ------
    FossilError
        Where a number is none or is given twice, or the two forms are mixed.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not any("=" in part for part in parts):
        return tuple(parts) or None
    pairs = [(n.strip(), name.strip()) for n, _, name in (p.partition("=") for p in parts)]
    numbers = [int(n) for n, name in pairs if n.isdecimal() and name]
    if len(set(numbers)) < len(pairs):
        raise FossilError(
            f"{text!r} does not say which class is which",
            expected="names in order (a, b), or numbers and names (0=a, 3=b), each number once",
            found=text,
        )
    return dict(zip(numbers, (name for _, name in pairs), strict=True))


def named_classes(names: Classes, count: int, where: str) -> tuple[str, ...]:
    """Return a name for each class of a model.

    Parameters
    ----------
    names
        None: COCO's for 80 classes, numbers else.

    Returns
    -------
    names in the model's order, `LEFT_OUT` for those to leave out

    Raises
    ------
    FossilError
        Where there are other classes than those named, none is kept, or two have the same name
        or one no plain name.
    """
    if names is None:
        coco = tuple(name.replace("_", " ") for name in _COCO.split())
        return coco if count == len(coco) else tuple(f"class {n}" for n in range(count))
    named = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
    wrong = [n for n in named if not 0 <= n < count]
    incomplete = not isinstance(names, Mapping) and len(named) != count
    kept = [name for name in named.values() if name != LEFT_OUT]
    if wrong or incomplete or not kept:
        example = kept[0] if kept else "name"
        raise FossilError(
            f"{where} has other classes than those named",
            expected=f"{count} names in the model's order, or numbers from 0 to {count - 1}"
            " with names",
            found=", ".join(f"{n}={name}" for n, name in named.items()) or "none",
            advice=f"Name all {count}, {LEFT_OUT} for those to leave out, or some, e.g."
            f" 0={example}.",
        )
    if len(set(kept)) < len(kept):
        raise FossilError(
            f"Two classes of {where} would have the same name",
            expected="a name for each",
            found=", ".join(kept),
        )
    for name in kept:
        plain_name(name, "a class")
    return tuple(named.get(n, LEFT_OUT) for n in range(count))
