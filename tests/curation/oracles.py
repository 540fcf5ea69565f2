"""Slow plain-Python answers to what the curation computes, written from the rules and not the code.

Sets, tuples, fractions and pouring one place after another; only the hashes that rank choices are
shared with the code, as nobody could guess them.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from cytoimagenet_hf.hashing import rank
from cytoimagenet_hf.schema import CATEGORIES

Field = tuple[str, str, Mapping[str, frozenset[str]]]  # id, source, category -> values
_WORD = (1 << 64) - 1


def scrambled(key: int) -> int:
    """Finalize splitmix64, in plain integers."""
    z = (key + 0x9E3779B97F4A7C15) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    return z ^ (z >> 31)


def pour(sizes: Mapping[object, int], turn: Callable[[object], int], places: int) -> dict:
    """Give a place to each stratum that is not full, again and again; the rest goes by rank."""
    given = dict.fromkeys(sizes, 0)
    while True:
        hungry = [one for one in sizes if given[one] < sizes[one]]
        if len(hungry) > places:
            break
        for one in hungry:
            given[one] += 1
        places -= len(hungry)
    for one in sorted(hungry, key=turn)[:places]:
        given[one] += 1
    return given


def largest_remainders(
    sizes: Mapping[object, int], turn: Callable[[object], int], places: int
) -> dict:
    """Give whole shares first, then one place each to the largest fractions left."""
    total = sum(sizes.values())
    exact = {one: Fraction(size * places, total) for one, size in sizes.items()}
    given = {one: math.floor(share) for one, share in exact.items()}
    waiting = sorted(sizes, key=lambda one: (given[one] - exact[one], turn(one)))
    for one in waiting[: places - sum(given.values())]:
        given[one] += 1
    return given


def thinned(
    members: Sequence[Field],
    places: int,
    parts: Callable[[Field], Sequence[tuple[str, frozenset[str] | str]]],
    salt: int,
    how: str,
) -> list[Field]:
    """Choose `places` of the members, spread over the strata that `parts` names."""
    strata: dict[tuple, list[Field]] = defaultdict(list)
    for one in members:
        strata[tuple(parts(one))].append(one)

    def turn(stratum: tuple) -> int:
        return scrambled((sum(_part_hash(part) for part in stratum) & _WORD) ^ salt)

    share = pour if how == "equal" else largest_remainders
    given = share({one: len(own) for one, own in strata.items()}, turn, places)
    chosen = []
    for stratum, own in strata.items():
        own.sort(key=lambda one: scrambled(rank(0, "field", one[0]) ^ salt))
        chosen += own[: given[stratum]]
    return chosen


def _part_hash(part: tuple[str, frozenset[str] | str]) -> int:
    kind, value = part
    if isinstance(value, str):
        return rank(0, "source", value)
    return rank(0, f"cell {kind}", "|".join(sorted(value)))


def plan(fields: Sequence[Field], parameters) -> tuple[dict[str, tuple[str, str]], list[dict]]:
    """Assign labels by the rules of the paper and of design 4.

    Returns:
        The label of each field that got one, and the report in the order of trying.
    """
    counts = Counter(
        (category, value)
        for _, _, cells in fields
        for category, values in cells.items()
        for value in values
    )
    order = sorted(counts, key=lambda one: (counts[one], CATEGORIES.index(one[0]), one[1]))
    label_of: dict[str, tuple[str, str]] = {}
    report = []
    for category, value in order:
        free = [
            one
            for one in fields
            if one[0] not in label_of and value in one[2].get(category, frozenset())
        ]
        row = {"category": category, "value": value, "candidates": counts[category, value]}
        report.append(row)
        if counts[category, value] < parameters.min_fields:
            row["dropped"] = "fields"
        elif len(free) < parameters.min_fields:
            row |= {"free": len(free), "dropped": "free"}
        else:
            chosen = _chosen(free, category, value, parameters)
            label_of |= {one[0]: (category, value) for one in chosen}
            row |= {"free": len(free), **_covered(free, chosen, category)}
    return label_of, report


def _chosen(free: Sequence[Field], category: str, value: str, parameters) -> list[Field]:
    salt = rank(parameters.seed, "label", category, value)
    chosen = list(free)
    if len(chosen) > parameters.presample:
        coarse = [one for one in ("organism", "cell_type") if one != category]
        chosen = thinned(chosen, parameters.presample, _parts(coarse), salt, parameters.allocation)
    if len(chosen) > parameters.max_fields:
        fine = [one for one in CATEGORIES if one != category]
        chosen = thinned(chosen, parameters.max_fields, _parts(fine), salt, parameters.allocation)
    return chosen


def _parts(categories: Iterable[str]) -> Callable[[Field], list]:
    listed = list(categories)

    def parts(one: Field) -> list[tuple[str, frozenset[str] | str]]:
        cells = [(category, one[2].get(category, frozenset())) for category in listed]
        return [("source", one[1]), *cells]

    return parts


def _covered(free: Sequence[Field], chosen: Sequence[Field], category: str) -> dict:
    parts = _parts(one for one in CATEGORIES if one != category)
    before, after = (Counter(tuple(parts(one)) for one in some) for some in (free, chosen))
    shares = [count / len(chosen) for count in after.values()]
    return {
        "assigned": len(chosen),
        "sources": tuple(sorted({one[1] for one in chosen})),
        "strata": len(before),
        "strata_covered": len(after),
        "entropy": -sum(share * math.log2(share) for share in shares),
    }


def held_out(
    rows: Iterable[tuple[int, str]], share: float, seed: int, published: Iterable[str] = ()
) -> tuple[set[str], dict[int, tuple[int, int]]]:
    """Choose the groups of the validation split by the rule of design 4, recounting each time."""
    carried = set(rows)
    groups = {label: {group for one, group in carried if one == label} for label, _ in carried}
    everything = {group for _, group in carried}
    out = set(published) & everything
    short = {}
    for label in sorted(groups, key=lambda one: (len(groups[one]), one)):
        if len(groups[label]) < 2:
            continue
        wanted = max(1, round(share * len(groups[label])))
        for group in sorted(groups[label] - out, key=lambda one: rank(seed, "split", one)):
            stays = all(own - out - {group} for own in groups.values() if group in own)
            if len(groups[label] & out) < wanted and stays:
                out.add(group)
        if len(groups[label] & out) < wanted:
            short[label] = (len(groups[label] & out), wanted)
    return out, short
