"""Options that several subcommands have."""

import os
import sys
from typing import Annotated

import typer

PROCESSORS = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
