"""What a benchmark is made of: a task, its images, and the protocols that score features of them.

All three are data. Tasks know folders and tables, encoders know pixels, and scoring (knn.py,
scoring.py) sees numbers and ids only (design 10).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Planes = npt.NDArray[Any]  # (channels, height, width) at native depth
Key = tuple[str | frozenset[str], ...]  # a value for each image; a set where it has several


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How features become a score. All of it is written into every result.

    A bank row is never a neighbor of the query with its own id, nor of one with which it shares a
    value of a key in `exclude`, nor of one whose whole value of a key in `exclude_equal` is the
    same. Queries and bank are the same rows (leave-one-out) where `bank` equals `query`.
    """

    name: str
    k: int
    metric: Literal["cosine", "euclidean"]
    bank: str = ""  # split whose rows are searched; "": all
    query: str = ""  # split whose rows are classified; "": all
    exclude: tuple[str, ...] = ()
    exclude_equal: tuple[str, ...] = ()
    aggregate: str = ""  # key over whose values features are averaged before the search
    standardize: Literal["none", "all", "bank"] = "bank"  # rows that mean and deviation come from
    ties: Literal["distance", "label"] = "distance"  # after the count; label order comes last
    weighted: bool = False  # votes count 1 / distance
    cluster: str = ""  # key whose values are resampled together in intervals

    def __post_init__(self) -> None:
        """Refuse what can't be scored."""
        if self.k < 1:
            raise ValueError(f"protocol {self.name}: k must be at least 1, got {self.k}.")


@dataclass(frozen=True, slots=True)
class Images:
    """The labelled images of one task: a table without pixels, and a function that reads them.

    Rows are sorted by id; ids are unique. Nothing is ever joined by row position.
    """

    ids: tuple[str, ...]
    labels: tuple[str, ...]  # "" where an image has none
    splits: tuple[str, ...]  # "" where the task has one part only
    keys: Mapping[str, Key]  # compound, batch, plate, group ...
    read: Callable[[int], Planes]  # row -> (channels, height, width), channels in the task's order
    dropped: Mapping[str, int] = field(default_factory=dict)  # reason -> images left out
    simulated: bool = False

    def __post_init__(self) -> None:
        """Refuse tables that don't fit together.

        Raises:
            ValueError: ids repeat or aren't sorted, or a column has another length.
        """
        for at in range(1, len(self.ids)):
            if self.ids[at] == self.ids[at - 1]:
                raise ValueError(f"The id {self.ids[at]!r} occurs twice.")
            if self.ids[at] < self.ids[at - 1]:
                raise ValueError(f"Ids must be sorted: {self.ids[at]!r} comes too late.")
        for name, column in {"labels": self.labels, "splits": self.splits, **self.keys}.items():
            if len(column) != len(self.ids):
                raise ValueError(f"{name}: {len(column)} values for {len(self.ids)} ids.")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One benchmark: where its images are found and how features of them are scored.

    A module in `evaluation/tasks/` holds one as `TASK`; the file name is the registry.
    """

    name: str
    title: str
    version: int  # raise it whenever a score could change
    channels: tuple[str, ...]
    open: Callable[[Path], Images]  # raises TaskNotFoundError where the layout isn't met
    protocols: tuple[Protocol, ...]  # the right ones (preset `standard`)
    paper: tuple[Protocol, ...] = ()  # what the paper computed; empty: the same
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Accuracy in percent, by protocol and column (random, imagenet, cytoimagenet, fusion)."""
    page: str = ""
    license: str = ""
    citation: str = ""
    layout: str = ""  # what lies in the folder, for people


@dataclass(frozen=True, slots=True)
class Features:
    """Embeddings of images, keyed by id, with where they come from (design 10)."""

    ids: tuple[str, ...]
    values: npt.NDArray[np.float32]  # (n, dimensions), finite
    provenance: Mapping[str, Any]  # encoder, revision, mode, weights hash, versions ...
    failed: Mapping[str, str] = field(default_factory=dict)  # id -> why it has no features
    pixels: tuple[str, ...] = ()  # sha256 of each row's planes as read; empty where unknown

    def take(self, ids: tuple[str, ...]) -> npt.NDArray[np.float32]:
        """Return rows in the order of `ids`.

        Raises:
            FeaturesError: an id has no features; says which and how many.
        """
        from cytoimagenet_hf.errors import FeaturesError

        at = {name: row for row, name in enumerate(self.ids)}
        missing = [name for name in ids if name not in at]
        if missing:
            raise FeaturesError(
                f"{len(missing)} of {len(ids)} images have no features (first: {missing[0]!r}). "
                f"They were made from other images; compute them again."
            )
        return self.values[[at[name] for name in ids]]
