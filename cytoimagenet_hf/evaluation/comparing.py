"""Which encoders differ: scores in the rows and columns of a table, each two of a row compared.

A row is a task, protocol, preset and mode; a column is an encoder. Scores of one row and column
differ in the seed of random weights only: they are shown by mean and range, and the lowest seed
stands for them in comparisons.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cytoimagenet_hf.evaluation import statistics
from cytoimagenet_hf.evaluation.results import Score
from cytoimagenet_hf.evaluation.scoring import Outcome
from cytoimagenet_hf.evaluation.statistics import Comparison

ALPHA = 0.05  # of a difference, after Holm's adjustment over a row
COLUMNS = ("intensity", "random", "imagenet", "cytoimagenet", "cytoimagenet+imagenet",
           "imagenet+random")  # fmt: skip
"""Encoders that are scored unless others are asked for, in the order of tables (design 10)."""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """What encoders are compared on."""

    task: str
    preset: str
    protocol: str
    mode: str

    def __str__(self) -> str:
        preset = "" if self.preset == "standard" else f" ({self.preset})"
        return f"{self.task} {self.protocol}{preset}, {self.mode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two columns of a row: how much the first is better, and p adjusted for all of the row."""

    row: Row
    first: str
    second: str
    found: Comparison
    adjusted: float


Table = Mapping[Row, Mapping[str, Sequence[Score]]]


def row_of(score: Score) -> Row:
    """Return the row that a score stands in."""
    return Row(score.task, score.preset, score.protocol.name, score.mode)


def tabulate(scores: Sequence[Score]) -> dict[Row, dict[str, list[Score]]]:
    """Arrange scores: rows sorted, `standard` before `paper`; columns as in `columns`; by seed.

    Raises:
        ValueError: two scores of one row, column and seed.
    """
    table: dict[Row, dict[str, list[Score]]] = {}
    seen: dict[tuple[Row, str, int | None], Score] = {}
    names = columns(scores)
    rows = sorted({row_of(one) for one in scores}, key=_place)
    for row in rows:
        table[row] = {}
    for score in sorted(scores, key=lambda one: (names.index(one.encoder), one.seed or 0)):
        key = (row_of(score), score.encoder, score.seed)
        if key in seen:
            raise ValueError(
                f"Two scores of {key[0]} by {score.encoder!r}: {seen[key].file} and {score.file}. "
                f"Weights, images or versions changed between them; remove the older one."
            )
        seen[key] = score
        table[key[0]].setdefault(score.encoder, []).append(score)
    return table


def columns(scores: Sequence[Score]) -> list[str]:
    """Return the encoders of scores: the known ones first, in `COLUMNS`' order, then by name."""
    names = {score.encoder for score in scores}
    known = [name for name in COLUMNS if name in names]
    return known + sorted(names - set(known))


def compare(scored: Sequence[tuple[Score, Outcome]]) -> tuple[list[Pair], list[str]]:
    """Compare each two encoders of a row on the same ids (see `statistics.paired`).

    Returns:
        The pairs, in the order of rows and columns, and a note for each pair that has other ids
        and so can't be compared.
    """
    outcomes = {score.identity: outcome for score, outcome in scored}
    pairs: list[Pair] = []
    notes: list[str] = []
    for row, cells in tabulate([score for score, _ in scored]).items():
        found: list[tuple[str, str, Comparison]] = []
        for first, second in itertools.combinations(cells, 2):
            one, other = (outcomes[cells[name][0].identity] for name in (first, second))
            if one.ids != other.ids:
                odd = len(set(one.ids) ^ set(other.ids))
                notes.append(
                    f"{row}: {first} and {second} aren't compared, as {odd} ids were scored for "
                    f"one of them only."
                )
                continue
            found.append((first, second, _paired(one, other)))
        adjusted = statistics.holm([comparison.p for _, _, comparison in found])
        pairs += [
            Pair(row=row, first=first, second=second, found=comparison, adjusted=p)
            for (first, second, comparison), p in zip(found, adjusted, strict=True)
        ]
    return pairs, notes


def leaders(cells: Mapping[str, Sequence[Score]], row: Row, pairs: Sequence[Pair]) -> list[str]:
    """Return the columns of a row that none is shown to be better than: the best and its ties.

    What wasn't compared with the best one counts as a tie, since nothing is known of it.
    """
    if not cells:
        return []
    best = max(cells, key=lambda name: mean(cells[name]))
    beaten = {
        ({pair.first, pair.second} - {best}).pop()
        for pair in pairs
        if pair.row == row and best in (pair.first, pair.second) and pair.adjusted < ALPHA
    }
    return [name for name in cells if name == best or name not in beaten]


def fullest(cells: Mapping[str, Sequence[Score]]) -> Score:
    """Return the score of a row that counts the most queries, the first of equal ones."""
    return max((one for scores in cells.values() for one in scores), key=lambda one: one.n)


def shortfall(scores: Sequence[Score], row: Score) -> str:
    """Say of how many queries a cell is where it scored fewer than its row: "of 63", or nothing."""
    fewest = min(one.n for one in scores)
    return f"of {fewest:,}" if fewest < row.n else ""


def mean(scores: Sequence[Score]) -> float:
    """Return the mean accuracy over seeds."""
    return sum(score.accuracy for score in scores) / len(scores)


def _paired(first: Outcome, second: Outcome) -> Comparison:
    clusters = dict(zip(first.ids, first.clusters, strict=True))
    right, other = (
        dict(zip(one.ids, one.correct.tolist(), strict=True)) for one in (first, second)
    )
    return statistics.paired(right, other, clusters)


def _place(row: Row) -> tuple[str, bool, str, str, str]:
    return row.task, row.preset != "standard", row.preset, row.protocol, row.mode
