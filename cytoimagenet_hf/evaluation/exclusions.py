"""Which bank rows are never neighbors of a query, from keys, without a matrix of all pairs."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.evaluation.records import Key

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exclusions:
    """For each key: the values of each query, and the bank rows that have a value."""

    wanted: tuple[Sequence[Sequence[Hashable]], ...]
    holders: tuple[Mapping[Hashable, Rows], ...]

    def rows(self, query: int) -> Rows:
        """Return the bank rows that are excluded for one query, sorted, each once."""
        found = [
            holders[value]
            for wanted, holders in zip(self.wanted, self.holders, strict=True)
            for value in wanted[query]
            if value in holders
        ]
        if len(found) < 2:
            return found[0] if found else np.empty(0, np.int64)
        return np.unique(np.concatenate(found))

    def __len__(self) -> int:
        """Count queries; 0 without keys."""
        return len(self.wanted[0]) if self.wanted else 0


def exclusions(
    query_keys: Sequence[Key], bank_keys: Sequence[Key], equal: Sequence[int] = ()
) -> Exclusions:
    """Exclude a bank row for a query where they share a value of any key.

    Leave-one-out is one more key: the ids.

    Args:
        query_keys: a key holds the value of each query: text, or a frozenset where it has several.
        bank_keys: the same keys of the bank's rows, in the same order.
        equal: positions of keys of which whole values are compared: two sets that only overlap
            don't exclude. An empty set shares nothing, but equals another empty set.

    Raises:
        ValueError: another number of keys, or a key of another length than the first.
    """
    if len(query_keys) != len(bank_keys):
        raise ValueError(f"{len(query_keys)} keys of queries, but {len(bank_keys)} of the bank.")
    for keys in (query_keys, bank_keys):
        if len({len(key) for key in keys}) > 1:
            raise ValueError(f"Keys of different lengths: {[len(key) for key in keys]}.")
    wanted = tuple(_values(key, at in equal) for at, key in enumerate(query_keys))
    held = [_values(key, at in equal) for at, key in enumerate(bank_keys)]
    return Exclusions(wanted, tuple(_holders(key) for key in held))


def _values(key: Key, whole: bool) -> list[tuple[Hashable, ...]]:
    """Return the values by which each row is compared."""
    if whole:
        return [(value if isinstance(value, frozenset) else frozenset((value,)),) for value in key]
    return [tuple(sorted(value)) if isinstance(value, frozenset) else (value,) for value in key]


def _holders(values: Sequence[Sequence[Hashable]]) -> dict[Hashable, Rows]:
    """Return the rows, in order, that have a value."""
    rows: dict[Hashable, list[int]] = {}
    for row, several in enumerate(values):
        for value in several:
            rows.setdefault(value, []).append(row)
    return {value: np.array(those, np.int64) for value, those in rows.items()}
