"""CytoImageNet: raw open microscopy images into a weakly labelled data set, and back out of it.

Public names are imported when they are first used, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytoimagenet_hf.hub.loading import load_dataset as load_dataset
    from cytoimagenet_hf.models.encoders import load_encoder as load_encoder
    from cytoimagenet_hf.sources import names as list_sources

__version__ = "0.1.0"
__all__ = ["__version__", "list_sources", "load_dataset", "load_encoder"]

_PUBLIC = {  # public name -> module and name there
    "list_sources": ("cytoimagenet_hf.sources", "names"),
    "load_dataset": ("cytoimagenet_hf.hub.loading", "load_dataset"),
    "load_encoder": ("cytoimagenet_hf.models.encoders", "load_encoder"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - whatever the name stands for
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, there = _PUBLIC[name]
    return getattr(importlib.import_module(module), there)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
