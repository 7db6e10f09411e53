"""Turns a parameter model into options and a workflow's result into output."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, Protocol, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from napari_fossiledit.cli.console import ProgressPrinter, interruptible, print_error, print_result
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.jobs.process import unexpected
from napari_fossiledit.params.base import Params
from napari_fossiledit.progress import Job

_HIDDEN = {"version"}
_CANCELLED = 130


class Summarised(Protocol):
    """A result that can be told as plain values."""

    def summary(self) -> Mapping[str, Any]:
        """Tell the result as JSON-able values."""


def fossil_command(
    model: type[Params] | None = None,
    *,
    skip: frozenset[str] = frozenset(),
    names: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Summarised]], Callable[..., None]]:
    """Make a command of a function that takes arguments, ``params`` and ``job``.

    Parameters
    ----------
    model
        Its fields become options and arrive as ``params``; None for a command without.
    skip
        Fields the command fills in itself, from its positional arguments of the same name.
    names
        Option names that differ from the field, e.g. ``{"class_name": "class"}``.
    """

    def decorate(function: Callable[..., Summarised]) -> Callable[..., None]:
        own = [
            p
            for p in inspect.signature(function, eval_str=True).parameters.values()
            if p.name not in ("params", "job")
        ]
        fields = {} if model is None else _visible(model, skip)
        options = [_option(n, f, (names or {}).get(n, n)) for n, f in fields.items()]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            as_json = values.pop("as_json")
            arguments = {p.name: values[p.name] for p in own}
            chosen = {n: values[n] for n in fields}
            with reported(as_json):
                params = None if model is None else _validated(model, chosen, arguments, skip)
                _run(function, arguments, params, as_json)

        # Typer reads the signature and, with it, the annotations.
        run.__signature__ = inspect.Signature([*own, *options, _json_option()])  # type: ignore[attr-defined]  # functions take any attribute
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options, _json_option())}
        return run

    return decorate


def _run(
    function: Callable[..., Summarised],
    arguments: Mapping[str, Any],
    params: Params | None,
    as_json: bool,
) -> None:
    extra = {} if params is None else {"params": params}
    with interruptible() as cancel:
        result = function(**arguments, **extra, job=Job(ProgressPrinter(), cancel))
    print_result(result.summary(), as_json)


class reported:  # noqa: N801  # reads as a statement: `with reported(...)`
    """Report every failure of a command as a message and an exit code, never as a traceback."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json

    def __enter__(self) -> None:
        """Start watching."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Turn `error` into a message and an exit code."""
        if error is None or isinstance(error, typer.Exit) or os.environ.get("FOSSILEDIT_DEBUG"):
            return
        told = error if isinstance(error, FossilError) else unexpected(error)
        if isinstance(error, KeyboardInterrupt):
            told = CancelledError("The command was broken off")
        print_error(told, self._as_json)
        code = _CANCELLED if isinstance(told, CancelledError) else 1
        raise typer.Exit(code) from None


def _visible(model: type[Params], skip: frozenset[str]) -> dict[str, FieldInfo]:
    return {n: f for n, f in model.model_fields.items() if n not in _HIDDEN | skip}


def _option(name: str, field: FieldInfo, option: str) -> inspect.Parameter:
    default = field.get_default(call_default_factory=True)
    flag = f"--{option.replace('_', '-')}"
    if default is True:
        flag += f"/--no-{flag[2:]}"
    if default is PydanticUndefined:
        default = ...
    if _is_tuple(field.annotation):
        default = ",".join(default)
    kind = str if _is_tuple(field.annotation) else field.annotation
    shown = default.value if isinstance(default, Enum) else default
    annotated = Annotated[kind, typer.Option(flag, help=field.description)]  # type: ignore[valid-type]  # made at run time
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=shown, annotation=annotated)


def _json_option() -> inspect.Parameter:
    annotated = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter("as_json", keyword, default=False, annotation=annotated)


def _is_tuple(annotation: Any) -> bool:
    return get_origin(annotation) is tuple


def _validated(
    model: type[Params],
    chosen: Mapping[str, Any],
    arguments: Mapping[str, Any],
    skip: frozenset[str],
) -> Params:
    values = dict(chosen) | {n: arguments[n] for n in skip if n in arguments}
    for name, field in model.model_fields.items():
        if _is_tuple(field.annotation) and isinstance(values.get(name), str):
            values[name] = tuple(p.strip() for p in values[name].split(",") if p.strip())
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(p) for p in first["loc"])
        raise FossilError(
            f"The value of {name.replace('_', '-')} cannot be used",
            expected=first["msg"],
            found=repr(first["input"]),
        ) from error
