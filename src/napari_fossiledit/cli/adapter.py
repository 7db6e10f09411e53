"""Turns a parameter model into options and a workflow's result into output."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any, Protocol, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from napari_fossiledit.cli.console import (
    ProgressPrinter,
    error_fields,
    interruptible,
    print_error,
    print_result,
)
from napari_fossiledit.errors import CancelledError, FossilError
from napari_fossiledit.log import start_logging, unexpected
from napari_fossiledit.params.base import Params
from napari_fossiledit.progress import Job

_HIDDEN = {"version"}
#: 128 + SIGINT: what a shell reports of a program that Ctrl-C ended.
CANCELLED = 130
_HELP = "Ask for --help."
# typer exports this one of its (or click's) exceptions, and not the one above it.
_USAGE_ERROR: type[Exception] = typer.BadParameter.mro()[1]
_log = logging.getLogger(__name__)
_OUTPUT_OPTIONS = tuple(
    inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(f"--{flag}", help=text)],
    )
    for name, flag, text in (
        ("as_json", "json", "Print the result as JSON."),
        ("verbose", "verbose", "Print the log to stderr, too."),
    )
)


class Summarised(Protocol):
    """A result that can be printed as plain values."""

    def summary(self) -> Mapping[str, Any]:
        """Return the result as JSON-able values."""


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
        shown = {} if model is None else model.model_fields
        fields = {n: f for n, f in shown.items() if n not in _HIDDEN | skip}
        options = [_option(n, f, (names or {}).get(n, n)) for n, f in fields.items()]

        @functools.wraps(function)
        def run(**values: Any) -> None:
            as_json = values.pop("as_json")
            start_logging(verbose=values.pop("verbose"))
            arguments = {p.name: values[p.name] for p in own}
            chosen = {n: values[n] for n in fields}
            with reported(as_json), interruptible() as cancel:
                given: dict[str, Any] = dict(arguments)
                if model is not None:
                    given["params"] = _validated(model, chosen, arguments, skip)
                _log.info("%s %s", function.__doc__ or function.__name__, given)
                result = function(**given, job=Job(ProgressPrinter(), cancel))
                print_result(result.summary(), as_json)
            # Of a result that is not all that was asked for.
            if code := getattr(result, "exit_code", 0):
                raise typer.Exit(code)

        # Typer reads the signature and, with it, the annotations.
        run.__signature__ = inspect.Signature([*own, *options, *_OUTPUT_OPTIONS])  # type: ignore[attr-defined]  # functions take any attribute
        run.__annotations__ = {p.name: p.annotation for p in (*own, *options, *_OUTPUT_OPTIONS)}
        return run

    return decorate


@contextmanager
def reported(as_json: bool) -> Iterator[None]:
    """Report every failure of a command as a message and an exit code, never as a traceback."""
    try:
        yield
    except typer.Exit:
        raise
    # Whatever went wrong has to reach the user as a message; the log has the traceback.
    except BaseException as error:
        if os.environ.get("FOSSILEDIT_DEBUG"):
            raise
        if isinstance(error, KeyboardInterrupt):
            error = CancelledError("The command was broken off")
        shown = error if isinstance(error, FossilError) else unexpected(error)
        _log.info("Ended by: %s", shown)
        print_error(shown, as_json)
        raise typer.Exit(CANCELLED if isinstance(shown, CancelledError) else 1) from None


@contextmanager
def usage_errors(as_json: bool) -> Iterator[None]:
    """Print errors of usage as JSON where that was asked for; typer prints them in words."""
    try:
        yield
    except _USAGE_ERROR as error:
        if as_json:
            message = getattr(error, "format_message", error.__str__)()
            print_result({"error": error_fields(FossilError(message, advice=_HELP))}, as_json=True)
        raise


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
            expected=first["msg"].removeprefix("Value error, "),
            found=repr(first["input"]),
        ) from error
