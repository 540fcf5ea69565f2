"""Exact nearest neighbors against the bare matrix product, scikit-learn, and single queries."""

import statistics
from collections.abc import Iterator

import numpy as np
from _timing import Figure, Options, run, seconds, shares

from cytoimagenet_hf.evaluation import candidates, knn
from cytoimagenet_hf.evaluation.exclusions import exclusions

K = 11
SIZES = ((8_000, 2_560, 4_000), (20_000, 5_120, 3_000))  # bank, dimensions, queries by default
ROUNDS = 3  # a round takes a minute
FEW = 40  # of so many queries, one is also searched by itself
STAGES = {
    "columns": [(candidates, "bank_columns"), (candidates, "query_columns")],
    "float64": [(knn, "between")],
}


def simulated(rows: int, width: int) -> np.ndarray:
    """Make features with a common offset, up to a tenth of them duplicates."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((rows, width), dtype=np.float32)
    values[rng.integers(0, rows, rows // 10)] = values[rng.integers(0, rows, rows // 10)]
    return values + np.float32(1)


def search(values: np.ndarray, queries: int, backend: knn.Backend = "torch") -> knn.Neighbors:
    """Find neighbors of the first rows among all others, by id."""
    ids = [str(row) for row in range(len(values))]
    excluded = exclusions([ids[:queries]], [ids])
    return knn.search(
        values[:queries], values, k=K, metric="euclidean", excluded=excluded, backend=backend
    )


def product(values: np.ndarray, queries: int) -> None:
    """Multiply the same blocks of queries with the bank, and keep nothing."""
    import torch

    bank = torch.from_numpy(values)
    step = min(knn.MOST_QUERIES, knn.SCORES // len(values))
    memory = torch.empty(min(step, queries), len(values))
    for start in range(0, queries, step):
        rows = bank[start : min(start + step, queries)]
        torch.mm(rows, bank.T, out=memory[: len(rows)])


def library(values: np.ndarray, queries: int) -> np.ndarray:
    """Search by scikit-learn's brute force, which finds each query itself, too."""
    from sklearn.neighbors import NearestNeighbors

    known = NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(values)
    return known.kneighbors(values[:queries], return_distance=False)


def one_at_a_time(values: np.ndarray, queries: int) -> None:
    """Multiply one query at a time with the bank, as a loop over images would."""
    import torch

    bank = torch.from_numpy(values)
    squares = (bank * bank).sum(dim=1) / 2
    for row in bank[:queries]:
        torch.topk(bank @ row - squares, K + 1)


def check(values: np.ndarray, queries: int) -> None:
    """Assert that ten queries have the neighbors that differences in float64 give."""
    found = search(values, queries)
    for at in range(0, queries, max(1, queries // 10)):
        own = values[at].astype(np.float64)
        pieces = np.array_split(values, 1 + values.size // 10**7)
        far = np.concatenate([np.square(piece - own).sum(axis=1) for piece in pieces])
        far[at] = np.inf
        nearest = np.argsort(far, kind="stable")[:K]
        assert np.array_equal(found.rows[at], nearest), f"query {at} has other neighbors"


def measure(options: Options) -> Iterator[Figure]:
    """Check neighbors, then time all four ways in turns, on one core."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for rows, width, queries in SIZES:
            if options.quick:
                yield from figures(rows // 20, width // 20, queries // 20, options)
            else:
                yield from figures(rows, width, rows if options.big else queries, options)
    finally:
        torch.set_num_threads(before)


def figures(rows: int, width: int, queries: int, options: Options) -> Iterator[Figure]:
    """Give three ratios for one size."""
    values = simulated(rows, width)
    check(values, min(queries, 500))
    few = max(1, queries // FEW)
    ways = {
        "product": lambda: product(values, queries),
        "ours": lambda: search(values, queries),
        "library": lambda: library(values, queries),
        "one": lambda: one_at_a_time(values, few),
    }
    rounds = [
        {name: seconds(way) for name, way in ways.items()}
        for _ in range(min(options.rounds, ROUNDS))
    ]
    spent = {name: statistics.median(one[name] for one in rounds) for name in ways}
    where = shares(ways["ours"], STAGES)
    note = f"{queries:,} queries, simulated features with a common offset and duplicates"
    for text, name, scale, must, aim in (
        ("bare product", "product", 1, 1.4, 1.15),
        ("scikit-learn", "library", 1, 1.4, 1.7),
        ("one query at a time", "one", queries / few, 8, 11),
    ):
        ratio = statistics.median(scale * one[name] / one["ours"] for one in rounds)
        less = name == "product"
        yield Figure(
            f"{rows:,} x {width:,}: {'time of ' if less else ''}{text}",
            1 / ratio if less else ratio,
            "x",
            must,
            aim,
            not less,
            scale * spent[name],
            spent["ours"],
            queries,
            where if less else {},
            note if less else "",
        )


if __name__ == "__main__":
    run(measure, __doc__)
