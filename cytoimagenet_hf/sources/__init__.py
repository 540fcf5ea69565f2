"""The data sets that CytoImageNet is made of: one module each; the file name is the registry."""

import difflib
import importlib
import pkgutil

from cytoimagenet_hf.errors import SourceNotFoundError
from cytoimagenet_hf.sources._source import (
    Box,
    ChannelSet,
    Download,
    FieldOfView,
    Plane,
    Source,
    SourceFolder,
    group_channels,
    make_key,
)

__all__ = [
    "Box",
    "ChannelSet",
    "Download",
    "FieldOfView",
    "Plane",
    "Source",
    "SourceFolder",
    "get",
    "group_channels",
    "make_key",
    "names",
]


def names() -> list[str]:
    """Names of all sources, read from file names; nothing is imported."""
    return sorted(
        module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")
    )


def get(name: str) -> Source:
    """Import one source module and return its `SOURCE`.

    Raises:
        SourceNotFoundError: there is no such source; near names are given.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or names()
        raise SourceNotFoundError(f"Unknown source {name!r}. Did you mean {', '.join(near)}?")
    source: Source = importlib.import_module(f"{__name__}.{name}").SOURCE
    return source
