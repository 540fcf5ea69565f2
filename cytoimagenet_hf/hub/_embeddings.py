"""The configs of embeddings that build.json lists, read as untrusted input."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from cytoimagenet_hf.hub._facts import EmbeddingFacts
from cytoimagenet_hf.hub.licenses import JOINED, strictest
from cytoimagenet_hf.schema import EMBEDDING_TYPES, EMBEDDINGS

SOURCES = ("default", "small")  # configs that embeddings may be of: they have all crops
CONFIG = re.compile(rf"{EMBEDDINGS}[a-z0-9]+(?:[.-][a-z0-9]+)*")
_DIMENSIONS = 1 << 16
NO_WEIGHTS = "none: "  # begins the license of what no weights made
_NAMES = {one.name for one in dataclasses.fields(EmbeddingFacts)}


def embeddings_of(build: Mapping[str, Any]) -> dict[str, EmbeddingFacts]:
    """Return the configs of embeddings by name; one that isn't of our form is passed over."""
    found = build.get("embeddings")
    if not isinstance(found, dict):
        return {}
    return {
        config: EmbeddingFacts(**one)
        for config, one in sorted(found.items())
        if CONFIG.fullmatch(config) and _is_whole(one)
    }


def may_be_shown(license: str) -> bool:
    """Say whether vectors may be shown to all, which is as for the weights that made them.

    Args:
        license: of the weights, as `EmbeddingFacts` holds it. Where nobody stated one, the data
            set's card says so, and nothing is forbidden.
    """
    stated = license and not license.startswith(NO_WEIGHTS)
    return not stated or strictest(*license.split(JOINED)).publishable


def _is_whole(one: object) -> bool:
    if not isinstance(one, dict) or one.keys() != _NAMES:
        return False
    builds, dim = one["builds"], one["dim"]
    return (
        all(isinstance(one[name], str) for name in _NAMES - {"dim", "builds"})
        and type(dim) is int
        and 0 < dim <= _DIMENSIONS
        and one["dtype"] in EMBEDDING_TYPES
        and one["config"] in SOURCES
        and isinstance(builds, list)
        and all(isinstance(build, str) for build in builds)
    )
