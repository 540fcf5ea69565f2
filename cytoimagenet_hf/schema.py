"""Names of categories and columns, the published schema, and the limits on outside input.

The only place that names columns (design 3). `features` imports `datasets` when it is called, so
that importing this module stays cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datasets

CATEGORIES = (
    "compound",
    "sirna",
    "gene",
    "phenotype",
    "cell_visible",
    "cell_type",
    "organism",
)  # paper 2.1; the order breaks ties and orders class integers

MODALITIES = ("fluorescence", "brightfield", "darkfield", "phase contrast")
TERMS = ("open", "sharealike", "noncommercial", "local")  # from most to least free (design 8)
SPLITS = ("train", "validation")
SIMULATED_MARK = "SIMULATED.txt"  # in the root of a source whose raw data are simulated
JOINT = "|"  # separates the values of one cell in tables; no value holds it

PUBLISHED_COLUMNS = (
    "image",
    "label",
    "category",
    "database",
    "name",
    "dir_name",
    "idx",
    "image_id",
    "group",
    "plate",
    "well",
    "site",
    *CATEGORIES,
    "microscopy",
    "channels",
    "crop",
    "scaling",
    "x_min",
    "x_max",
    "y_min",
    "y_max",
    "height",
    "width",
    "source_sha256",
    "pixel_sha256",
    "license",
    "terms",
)
EMBEDDING_TYPES = ("float16", "float32")
EMBEDDINGS = "embeddings-"  # what the names of configs with embeddings begin with
POINTER_COLUMNS = ("shard", "row_group", "row")  # in config `metadata`: where each crop's image is


@dataclass(frozen=True, slots=True)
class Limits:
    """What a file from outside may ask for; checked on its header before anything is allocated."""

    pixels: int = 1 << 26  # a plane
    decoded_bytes: int = 256 << 20  # a plane
    file_bytes: int = 4 << 30
    pages: int = 4096

    @classmethod
    def for_pixels(cls, pixels: int) -> Limits:
        """Limits whose plane may hold `pixels`; bytes grow with it (`--max-pixels`)."""
        return cls(pixels=pixels, decoded_bytes=max(cls().decoded_bytes, 4 * pixels))


def features(
    labels: Sequence[str], *, image: bool = True, pointers: bool = False
) -> datasets.Features:
    """Return the published schema.

    Args:
        labels: class names in the order of their integers.
        image: with the image column (all configs but `metadata`).
        pointers: with shard, row group and row of each crop (`metadata`).

    Returns:
        Features in the order of `PUBLISHED_COLUMNS`.
    """
    from datasets import ClassLabel, Features, Image, List, Value

    text, whole, flag = Value("string"), Value("int32"), Value("bool")
    special = {
        "image": Image(),
        "label": ClassLabel(names=list(labels)),
        "category": ClassLabel(names=list(CATEGORIES)),
        "channels": List(text),
        "crop": flag,
        "scaling": Value("float32"),
        **{category: List(text) for category in CATEGORIES},
        **dict.fromkeys(("x_min", "x_max", "y_min", "y_max", "height", "width"), whole),
    }
    columns = {name: special.get(name, text) for name in PUBLISHED_COLUMNS}
    if not image:
        del columns["image"]
    if pointers:
        columns |= {"shard": text, "row_group": whole, "row": whole}
    return Features(columns)


def embedding_features(labels: Sequence[str], dim: int, dtype: str) -> datasets.Features:
    """Return the schema of a config with embeddings.

    Args:
        labels: class names in the order of their integers.
        dim: length of the vectors.
        dtype: one of `EMBEDDING_TYPES`.
    """
    from datasets import ClassLabel, Features, List, Value

    return Features(
        {
            "image_id": Value("string"),
            "label": ClassLabel(names=list(labels)),
            "embedding": List(Value(dtype), length=dim),
            "pixel_sha256": Value("string"),
        }
    )
