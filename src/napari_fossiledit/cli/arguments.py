"""What commands have in common: their project argument and the names of their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ProjectArgument = Annotated[Path, typer.Argument(metavar="PROJECT", help="Project folder.")]
CLASS = {"class_name": "class"}
