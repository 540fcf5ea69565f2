"""From features and a protocol to predictions: which label do its neighbors give each query.

Everything is joined by id (protocols.md 6.1), nothing by row. What has no features, no label, or
can't be scored is named with its reason and is never silently part of a count.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from cytoimagenet_hf.errors import NotScorableError, TaskNotFoundError
from cytoimagenet_hf.evaluation import knn, transforms
from cytoimagenet_hf.evaluation.distances import Float, check_finite
from cytoimagenet_hf.evaluation.records import Features, Images, Key, Protocol

NO_LABEL = "label not in its bank"  # no row of its label is left after exclusions
TOO_FEW = "too few neighbors"  # fewer than k rows are left after exclusions


@dataclass(frozen=True, slots=True)
class Outcome:
    """What each query was predicted to be."""

    ids: tuple[str, ...]  # scored queries (images, or groups where features are averaged), sorted
    truth: tuple[str, ...]
    predicted: tuple[str, ...]
    clusters: tuple[str, ...]  # what is resampled together; "" without a cluster key
    bank_size: int
    unscorable: Mapping[str, str] = field(default_factory=dict)  # query id -> reason
    left_out: Mapping[str, str] = field(default_factory=dict)  # image id -> why it took no part

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Return for each scored query whether its label was predicted."""
        pairs = zip(self.truth, self.predicted, strict=True)
        return np.array([one == other for one, other in pairs], np.bool_)


@dataclass(frozen=True, slots=True)
class _Side:
    """Queries or bank: rows sorted by id, with labels and keys."""

    ids: tuple[str, ...]
    values: Float
    labels: tuple[str, ...]
    keys: Mapping[str, Key]


def score(
    images: Images,
    parts: Sequence[Features],
    protocol: Protocol,
    *,
    backend: knn.Backend | None = None,
) -> Outcome:
    """Predict the label of each query from its nearest bank rows.

    Args:
        images: ids, labels, splits and keys.
        parts: features; several are a fusion: each is standardized by itself, then they are joined
            with equal weight. An image that failed in any part takes no part at all.
        protocol: how.
        backend: of the search (see knn.search); changes no result.

    Raises:
        FeaturesError: an image has no features and no reason why, or they aren't finite.
        TaskNotFoundError: a key or split that the images don't have.
        NotScorableError: none of the images can be used.
        ValueError: images of one group with different labels, or without one value to average over.
    """
    if not parts:
        raise ValueError("There are no features to score.")
    queries, bank, left_out = _sides(images, parts, protocol)
    excluded = _exclusions(queries, bank, protocol)
    unscorable = _unscorable(queries, bank, excluded, protocol.k)
    neighbors = knn.search(
        queries.values,
        bank.values,
        k=protocol.k,
        metric=protocol.metric,
        excluded=excluded,
        parts=len(parts),
        backend=backend,
    )
    return _outcome(queries, bank, neighbors, protocol, (unscorable, left_out))


def _sides(
    images: Images, parts: Sequence[Features], protocol: Protocol
) -> tuple[_Side, _Side, dict[str, str]]:
    """Return queries and bank (one object where they are the same), and what is left out."""
    bank, queries, left_out = _rows(images, parts, protocol)
    used = np.union1d(bank, queries)
    fit = np.searchsorted(used, bank if protocol.standardize == "bank" else used)
    values = _values(images, parts, used, fit, protocol.standardize)

    def side(rows: npt.NDArray[np.int64]) -> _Side:
        own = values if len(rows) == len(used) else values[np.searchsorted(used, rows)]
        return _side(images, own, rows, protocol)

    known = side(bank)
    asked = known if protocol.query == protocol.bank else side(queries)
    return asked, known, left_out


def _rows(
    images: Images, parts: Sequence[Features], protocol: Protocol
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], dict[str, str]]:
    """Return the images of bank and queries, and the reasons of those that take no part."""
    sides = []
    left_out: dict[str, str] = {}
    for split in (protocol.bank, protocol.query):
        rows = [row for row, own in enumerate(images.splits) if split in ("", own)]
        if not rows:
            raise TaskNotFoundError(
                f"protocol {protocol.name}: no image is in split {split!r}; there are "
                f"{', '.join(map(repr, sorted(set(images.splits)))) or 'no images'}."
            )
        reasons = {images.ids[row]: _reason(images, parts, row) for row in rows}
        left_out |= {name: reason for name, reason in reasons.items() if reason}
        kept = [row for row in rows if not reasons[images.ids[row]]]
        if not kept:
            raise NotScorableError(
                f"protocol {protocol.name}: none of the {len(rows)} images of split {split!r} can "
                f"be used (first: {images.ids[rows[0]]!r}, {reasons[images.ids[rows[0]]]})."
            )
        sides.append(np.array(kept, np.int64))
    return sides[0], sides[1], left_out


def _reason(images: Images, parts: Sequence[Features], row: int) -> str:
    """Return why an image takes no part, or an empty text."""
    if not images.labels[row]:
        return "no label"
    for part in parts:
        if images.ids[row] in part.failed:
            return f"no features: {part.failed[images.ids[row]]}"
    return ""


def _values(
    images: Images,
    parts: Sequence[Features],
    rows: npt.NDArray[np.int64],
    fit: npt.NDArray[np.int64],
    mode: str,
) -> Float:
    """Return features of some images, each part standardized, side by side."""
    ids = tuple(images.ids[row] for row in rows)
    joined = []
    for part in parts:
        values = part.take(ids)
        check_finite(values, ids)
        joined.append(
            values.astype(np.float64) if mode == "none" else transforms.standardize(values, fit)
        )
    return transforms.fuse(joined) if len(joined) > 1 else joined[0]


def _side(images: Images, values: Float, rows: npt.NDArray[np.int64], protocol: Protocol) -> _Side:
    """Return rows with labels and the keys that the protocol names, averaged where it says so."""
    names = {*protocol.exclude, *protocol.exclude_equal, protocol.cluster, protocol.aggregate} - {
        ""
    }
    missing = sorted(names - set(images.keys))
    if missing:
        raise TaskNotFoundError(
            f"protocol {protocol.name}: the images have no key {', '.join(map(repr, missing))}; "
            f"there are {', '.join(map(repr, sorted(images.keys))) or 'none'}."
        )
    ids = tuple(images.ids[row] for row in rows)
    labels = tuple(images.labels[row] for row in rows)
    keys = {name: tuple(images.keys[name][row] for row in rows) for name in sorted(names)}
    if not protocol.aggregate:
        return _Side(ids, values, labels, keys)
    groups = _groups(ids, keys[protocol.aggregate], protocol)
    means, members = transforms.aggregate(values, groups)
    held: dict[str, list[int]] = {name: [] for name in members}
    for row, name in enumerate(groups):
        held[name].append(row)
    joined = {
        name: tuple(_union(key[row] for row in held[group]) for group in members)
        for name, key in keys.items()
    }
    return _Side(members, means, _group_labels(held, labels, ids), joined)


def _groups(ids: Sequence[str], key: Key, protocol: Protocol) -> list[str]:
    """Return the group that each image is averaged in."""
    groups = []
    for name, value in zip(ids, key, strict=True):
        if not isinstance(value, str) or not value:
            raise ValueError(
                f"protocol {protocol.name}: features are averaged over {protocol.aggregate!r}, of "
                f"which each image needs one value; {name!r} has {value!r}."
            )
        groups.append(value)
    return groups


def _union(values: Iterable[str | frozenset[str]]) -> str | frozenset[str]:
    """Return all values of a group's images: text where there is only one."""
    every = frozenset().union(*({one} if isinstance(one, str) else one for one in values))
    return next(iter(every)) if len(every) == 1 else every


def _group_labels(
    held: Mapping[str, Sequence[int]], labels: Sequence[str], ids: Sequence[str]
) -> tuple[str, ...]:
    """Return the one label of each group's images."""
    found = []
    for name, rows in held.items():
        first = labels[rows[0]]
        other = next((row for row in rows if labels[row] != first), None)
        if other is not None:
            raise ValueError(
                f"Images of {name!r} have different labels: {ids[rows[0]]!r} is {first!r}, but "
                f"{ids[other]!r} is {labels[other]!r}. Correct the table of labels."
            )
        found.append(first)
    return tuple(found)


def _exclusions(queries: _Side, bank: _Side, protocol: Protocol) -> knn.Exclusions:
    """Exclude by the protocol's keys, and each query itself by its id."""
    names = (*protocol.exclude, *protocol.exclude_equal)
    whole = range(1 + len(protocol.exclude), 1 + len(names))
    asked = [queries.ids, *(queries.keys[name] for name in names)]
    known = [bank.ids, *(bank.keys[name] for name in names)]
    return knn.exclusions(asked, known, equal=whole)


def _unscorable(queries: _Side, bank: _Side, excluded: knn.Exclusions, k: int) -> dict[str, str]:
    """Return the queries that can't be right, or can't be asked, with the reason."""
    labels = np.array(bank.labels, dtype=object)
    counts = Counter(bank.labels)
    reasons = {}
    for at, (name, label) in enumerate(zip(queries.ids, queries.labels, strict=True)):
        rows = excluded.rows(at)
        if counts[label] == np.count_nonzero(labels[rows] == label):
            reasons[name] = NO_LABEL
        elif len(labels) - len(rows) < k:
            reasons[name] = TOO_FEW
    return reasons


def _outcome(
    queries: _Side,
    bank: _Side,
    neighbors: knn.Neighbors,
    protocol: Protocol,
    reasons: tuple[Mapping[str, str], Mapping[str, str]],
) -> Outcome:
    """Let the neighbors vote, and keep the queries that can be scored."""
    unscorable, left_out = reasons
    names = sorted(set(bank.labels))
    number = {name: at for at, name in enumerate(names)}
    codes = np.array([number[label] for label in bank.labels], np.int64)
    votes = knn.vote(neighbors, codes, ties=protocol.ties, weighted=protocol.weighted)
    clusters = queries.keys.get(protocol.cluster, ("",) * len(queries.ids))
    kept = [row for row, name in enumerate(queries.ids) if name not in unscorable]
    return Outcome(
        ids=tuple(queries.ids[row] for row in kept),
        truth=tuple(queries.labels[row] for row in kept),
        predicted=tuple(names[votes[row]] for row in kept),
        clusters=tuple(_cluster(clusters[row]) for row in kept),
        bank_size=len(bank.ids),
        unscorable=unscorable,
        left_out=left_out,
    )


def _cluster(value: str | frozenset[str]) -> str:
    """Return one name for what is resampled together."""
    return value if isinstance(value, str) else "|".join(sorted(value))
