"""Train and validation: whole groups go to one side, whatever their labels (design 4)."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from cytoimagenet_hf.hashing import rank


@dataclass(frozen=True, slots=True)
class Split:
    """Which groups are held out, and where that fell short."""

    validation: frozenset[str]  # groups
    short: Mapping[int, tuple[int, int]]  # label -> (groups in validation, groups wanted)


def split_groups(
    rows: Iterable[tuple[int, str]],
    *,
    share: float,
    seed: int,
    held_out: Collection[str] = (),
    trained: Collection[str] = (),
) -> Split:
    """Hold out about `share` of each label's groups.

    A label with one group keeps it in train. The others, fewest groups first, count what is
    already held out and add the free groups with the lowest hash until max(1, round(share * g)). A
    group is held out only while every label that it carries keeps another group in train.

    Args:
        rows: (label, group) of each crop; labels are compared as integers.
        share: of the groups, 0..1.
        seed: of the hashes.
        held_out: groups that a published release placed in validation.
        trained: groups that it placed in train, which therefore aren't free.

    Returns:
        The groups of the validation split, and the labels that got fewer than wanted.
    """
    groups_of: dict[int, set[str]] = defaultdict(set)
    labels_of: dict[str, set[int]] = defaultdict(set)
    for label, group in rows:
        groups_of[label].add(group)
        labels_of[group].add(label)
    fixed = set(trained)
    validation = set(held_out) & set(labels_of)
    kept = {label: len(groups - validation) for label, groups in groups_of.items()}
    short: dict[int, tuple[int, int]] = {}
    for label in sorted(groups_of, key=lambda one: (len(groups_of[one]), one)):
        groups = groups_of[label]
        if len(groups) == 1:
            continue
        wanted = max(1, round(share * len(groups)))
        inside = len(groups & validation)
        free = sorted(groups - validation - fixed, key=lambda one: (rank(seed, "split", one), one))
        for group in free:
            if inside >= wanted:
                break
            if all(kept[carried] > 1 for carried in labels_of[group]):
                validation.add(group)
                inside += 1
                for carried in labels_of[group]:
                    kept[carried] -= 1
        if inside < wanted:
            short[label] = inside, wanted
    return Split(frozenset(validation), short)
