"""Weak labels: which values become labels and which fields they get (paper 2.1; design 4).

Rarest value first, each label takes free fields that carry exactly its value; a field gets one
label. Whatever must be thinned out is thinned out evenly over strata, ranked by hashes, so that
the outcome depends neither on the order of rows nor on codes (speed.md 2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.curation.parameters import Parameters
from cytoimagenet_hf.hashing import mix, rank, ranks
from cytoimagenet_hf.schema import CATEGORIES, JOINT

Codes = npt.NDArray[np.int32]
Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]

_RADIX = 1 << 16  # codes of 16 bit are sorted by radix, 4 x as fast
_COARSE = ("organism", "cell_type")  # with the source, the strata of the first thinning out


@dataclass(frozen=True, slots=True)
class Cells:
    """One category of all fields: a code a field, and the text of each code."""

    codes: Codes  # (fields,); -1 where the field has no value
    texts: Sequence[str]  # sorted distinct values, joined by "|"


@dataclass(frozen=True, slots=True)
class Fields:
    """All fields of a build, as the planner sees them."""

    hashes: Keys  # (fields,) of the field's id
    sources: Codes  # (fields,)
    source_names: Sequence[str]
    cells: Mapping[str, Cells]  # every category

    def __len__(self) -> int:
        return len(self.hashes)


@dataclass(frozen=True, slots=True)
class LabelRow:
    """Why a potential label was taken or dropped: one row of the label report."""

    category: str
    value: str
    candidates: int  # fields that carry the value
    free: int = 0  # of them not yet taken by rarer labels
    assigned: int = 0
    sources: tuple[str, ...] = ()  # of the assigned fields
    strata: int = 0  # among the free ones
    strata_covered: int = 0  # among the assigned ones
    entropy: float = 0.0  # bits, of the assigned ones over strata
    crops: int = 0
    dropped_reason: str = ""


@dataclass(frozen=True, slots=True)
class Pins:
    """What a published release fixes: its labels stay, and so do the labels of its fields."""

    taken: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """(category, value) of each published label -> its published fields; in any order."""
    of_field: Sequence[tuple[int, tuple[str, str]]] = ()
    """Number of each published field that is among the fields here, and its label."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome: a label for each field, and the report."""

    assigned: Codes  # (fields,) index into `labels`; -1: no label
    labels: tuple[LabelRow, ...]  # every value that occurs, in the order of trying


def label_texts(labels: Sequence[tuple[str, str]], *, published: Sequence[str] = ()) -> list[str]:
    """Name classes: the value, or `value (category)` for the later of two with one value.

    Args:
        labels: (category, value), in the order of CATEGORIES and then of values.
        published: names of classes that come before them.
    """
    seen = set(published)
    texts = []
    for category, value in labels:
        text = value
        while text in seen:  # again where a value itself reads "x (gene)"
            text = f"{text} ({category})"
        texts.append(text)
        seen.add(text)
    return texts


def plan_labels(fields: Fields, parameters: Parameters, pins: Pins | None = None) -> Plan:
    """Assign at most one label to each field.

    Args:
        fields: of all sources.
        parameters: thresholds, seed and allocation.
        pins: what a release has published already. Its labels stay whatever their counts, and take
            new fields only for the places that its own fields leave.

    Returns:
        The plan; equal for any order of the fields.
    """
    pins = pins or Pins()
    index = {category: _Index(fields.cells[category]) for category in CATEGORIES}
    strata = _Strata(fields)
    assigned = np.full(len(fields), -1, np.int32)
    labels = _potential(index, pins)
    number_of = {(one.category, one.value): number for number, one in enumerate(labels)}
    for at, pinned in pins.of_field:
        assigned[at] = number_of[pinned]
    for number, label in enumerate(labels):
        published = pins.taken.get((label.category, label.value))
        if published is not None:
            rows = index[label.category].rows(label.value)
            rows = rows[assigned[rows] < 0]
            chosen, labels[number] = _add(fields, label, rows, strata, parameters, published)
            assigned[chosen] = number
            continue
        if label.candidates < parameters.min_fields:
            few = f"fewer than {parameters.min_fields} fields"
            labels[number] = replace(label, dropped_reason=few)
            continue
        rows = index[label.category].rows(label.value)
        rows = rows[assigned[rows] < 0]
        chosen, labels[number] = _fill(fields, label, rows, strata, parameters)
        assigned[chosen] = number
    return Plan(assigned, tuple(labels))


def _potential(index: Mapping[str, "_Index"], pins: Pins) -> list[LabelRow]:
    """All values that occur or are published, in the order of trying: rarest first."""
    found = [one for category in CATEGORIES for one in index[category].potential(category)]
    known = {(one.category, one.value) for one in found}
    found += [LabelRow(*label, candidates=0) for label in pins.taken if label not in known]
    return sorted(
        found, key=lambda one: (one.candidates, CATEGORIES.index(one.category), one.value)
    )


def _add(
    fields: Fields,
    label: LabelRow,
    free: Rows,
    strata: "_Strata",
    parameters: Parameters,
    published: int,
) -> tuple[Rows, LabelRow]:
    """Choose new fields for a published label, as many as it has places left."""
    places = max(0, parameters.max_fields - published)
    if not len(free) or not places:
        return free[:0], replace(label, free=len(free), assigned=published)
    limits = replace(parameters, min_fields=1, max_fields=places)
    chosen, row = _fill(fields, label, free, strata, limits)
    return chosen, replace(row, assigned=published + len(chosen))


def _fill(
    fields: Fields, label: LabelRow, free: Rows, strata: "_Strata", parameters: Parameters
) -> tuple[Rows, LabelRow]:
    """Choose the fields of one label among the free ones."""
    row = replace(label, free=len(free))
    if len(free) < parameters.min_fields:
        taken = label.candidates - len(free)
        reason = f"fewer than {parameters.min_fields} free fields ({taken} taken by rarer labels)"
        return free[:0], replace(row, dropped_reason=reason)
    salt = np.uint64(rank(parameters.seed, "label", label.category, label.value))
    chosen = free
    for limit, keys_of in (
        (parameters.presample, strata.coarse),
        (parameters.max_fields, strata.fine),
    ):
        if len(chosen) > limit:
            keys, order = keys_of(chosen, label.category), mix(fields.hashes[chosen] ^ salt)
            chosen = chosen[allocate(keys, order, limit, salt, parameters.allocation)]
    counts = np.unique(strata.fine(chosen, label.category), return_counts=True)[1]
    shares = counts / counts.sum()
    return chosen, replace(
        row,
        assigned=len(chosen),
        sources=tuple(sorted({fields.source_names[code] for code in set(fields.sources[chosen])})),
        strata=_distinct(strata.fine(free, label.category)),
        strata_covered=len(counts),
        entropy=round(float(-(shares * np.log2(shares)).sum()), 4) + 0.0,  # no -0.0
    )


def _distinct(keys: Keys) -> int:
    """Count distinct keys; sorting finds them up to 8 x as fast as np.unique's hash table."""
    return int(np.count_nonzero(np.diff(np.sort(keys)))) + 1 if len(keys) else 0


class _Strata:
    """Keys of strata: sums of hashes, so that leaving a category out is one subtraction."""

    def __init__(self, fields: Fields) -> None:
        self._cells = fields.cells
        self._hashes = {
            category: _cell_hashes(category, fields.cells[category]) for category in CATEGORIES
        }
        self._sources = fields.sources
        self._origins = ranks(0, "source", fields.source_names)
        self._total = self._origins[fields.sources]
        for category in CATEGORIES:
            self._total += self._hashes[category][fields.cells[category].codes]

    def fine(self, rows: Rows, own: str) -> Keys:
        """Source and the value sets of all categories but the label's own."""
        return self._total[rows] - self._hashed(own, rows)

    def coarse(self, rows: Rows, own: str) -> Keys:
        """Source, organism and cell type, without the label's own category."""
        keys: Keys = self._origins[self._sources[rows]]
        for category in _COARSE:
            if category != own:
                keys = keys + self._hashed(category, rows)
        return keys

    def _hashed(self, category: str, rows: Rows) -> Keys:
        """Hashes of one category's cells; looked up, as an array of them all takes 8 bytes each."""
        keys: Keys = self._hashes[category][self._cells[category].codes[rows]]
        return keys


def allocate(strata: Keys, order: Keys, places: int, salt: np.uint64, how: str) -> Rows:
    """Choose `places` items spread over strata.

    `equal`: every stratum fills up to the same level (water filling); the places left over go to
    one more item of each of the strata that rank first, so with more strata than places single
    strata get one each. `proportional`: in proportion to size, by largest remainders.

    Args:
        strata: (n,) key of each item's stratum; n > places.
        order: (n,) rank of each item inside of its stratum, lowest first.
        places: how many to choose.
        salt: mixed with a stratum's key to rank strata.
        how: equal | proportional.

    Returns:
        (places,) positions, ascending.
    """
    at = np.lexsort((order, strata))
    keys, starts, sizes = np.unique(strata[at], return_index=True, return_counts=True)
    turn = mix(keys ^ salt)
    quotas = _equal(sizes, turn, places) if how == "equal" else _shares(sizes, turn, places)
    within = np.arange(len(at)) - np.repeat(starts, sizes)
    return np.sort(at[within < np.repeat(quotas, sizes)])


def _equal(sizes: Rows, turn: Keys, places: int) -> Rows:
    """Fill all strata to the highest common level that fits, then single places by `turn`."""
    ascending = np.sort(sizes)
    below = np.concatenate([[0], np.cumsum(ascending)])[:-1]  # taken by strata emptied before
    left = np.arange(len(sizes), 0, -1)
    levels = (places - below) // left  # level if the strata from here on are not emptied
    at = int(np.argmax(levels < ascending))  # the first stratum that the level does not empty
    level = int(levels[at])
    quotas = np.minimum(sizes, level)
    open_strata = np.flatnonzero(sizes > level)
    extra = open_strata[np.argsort(turn[open_strata], kind="stable")]
    quotas[extra[: places - int(quotas.sum())]] += 1
    return quotas


def _shares(sizes: Rows, turn: Keys, places: int) -> Rows:
    """Largest remainders, in whole numbers; equal remainders by `turn`."""
    total = int(sizes.sum())
    quotas, remainders = np.divmod(sizes * places, total)
    first = np.lexsort((turn, -remainders))
    quotas[first[: places - int(quotas.sum())]] += 1
    return quotas


class _Index:
    """Rows of each value of one category, found by slices of one sorted array (speed.md 2)."""

    def __init__(self, cells: Cells) -> None:
        shifted = cells.codes + 1  # no value comes first
        if len(cells.texts) < _RADIX:
            shifted = shifted.astype(np.uint16)
        edges = np.cumsum(np.bincount(shifted, minlength=len(cells.texts) + 1))
        self._order = np.argsort(shifted, kind="stable")[edges[0] :].astype(np.int32)
        self._edges = (edges - edges[0]).tolist()
        self._cells: dict[str, list[int]] = {}
        for code, text in enumerate(cells.texts):
            for value in text.split(JOINT):
                self._cells.setdefault(value, []).append(code)

    def potential(self, category: str) -> list[LabelRow]:
        """Every value that occurs, with its count."""
        return [
            LabelRow(category, value, count)
            for value, codes in self._cells.items()
            if (count := sum(self._edges[code + 1] - self._edges[code] for code in codes))
        ]

    def rows(self, value: str) -> Rows:
        """Fields that carry the value; none where it doesn't occur."""
        edges = self._edges
        codes = self._cells.get(value, ())
        slices = [self._order[edges[code] : edges[code + 1]] for code in codes]
        return np.concatenate([self._order[:0], *slices])


def _cell_hashes(category: str, cells: Cells) -> Keys:
    """Hash each set of values of one category; fields without any (code -1) take the last hash."""
    return ranks(0, f"cell {category}", [*cells.texts, ""])
