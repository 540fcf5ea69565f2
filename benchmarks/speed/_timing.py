"""Interleaved timing of a baseline against the package, and the table or JSON of its outcome.

The machine may be noisy, so a ratio is the median of the ratios of single rounds, in each of which
the baseline and ours run one right after the other, on one core (speed.md).
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from unittest import mock

ROUNDS = 7
Action = Callable[[], object]
Stage = tuple[object, str]  # where a function is looked up, and its name


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number against what it must be and what it aims at."""

    name: str
    value: float
    unit: str  # "x": times as fast as the baseline
    must: float
    aim: float
    more_is_better: bool = True
    baseline_seconds: float | None = None
    seconds: float | None = None
    images: int = 0  # in one round
    where: Mapping[str, float] = field(default_factory=dict)  # stage -> share of our time
    note: str = ""  # what it was measured on

    @property
    def holds(self) -> bool:
        """Whether the figure reaches `must`."""
        return self.value >= self.must if self.more_is_better else self.value <= self.must


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    rounds: int
    quick: bool  # tiny inputs, to see that everything runs; its figures mean nothing
    big: bool


def compare(  # noqa: PLR0913 - one call a case, all by name
    name: str,
    baseline: Action,
    ours: Action,
    options: Options,
    *,
    must: float,
    aim: float,
    images: int = 0,
    stages: Mapping[str, Sequence[Stage]] | None = None,
    note: str = "",
) -> Figure:
    """Time two actions in turns; both have been called once before the first round."""
    baseline(), ours()
    spent = in_turns({"baseline": baseline, "ours": ours}, options.rounds)
    return against(
        name,
        spent["baseline"],
        spent["ours"],
        must=must,
        aim=aim,
        images=images,
        where=shares(ours, stages or {}),
        note=note,
    )


def in_turns(actions: Mapping[str, Action], rounds: int) -> dict[str, list[float]]:
    """Time several actions in turns; give the seconds of each round."""
    spent: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            spent[name].append(seconds(action))
    return spent


def against(
    name: str,
    baseline: Sequence[float],
    ours: Sequence[float],
    *,
    must: float,
    aim: float,
    **about: Any,  # noqa: ANN401 - other fields of Figure
) -> Figure:
    """Make the figure of a baseline and ours that were timed in the same rounds."""
    return Figure(
        name,
        statistics.median(theirs / own for theirs, own in zip(baseline, ours, strict=True)),
        "x",
        must,
        aim,
        baseline_seconds=statistics.median(baseline),
        seconds=statistics.median(ours),
        **about,
    )


def seconds(action: Action) -> float:
    """Time one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def shares(action: Action, stages: Mapping[str, Sequence[Stage]]) -> dict[str, float]:
    """Tell what share of a call is spent inside of each stage's functions; they must not nest."""
    spent = dict.fromkeys(stages, 0.0)

    def timed(stage: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[stage] += time.perf_counter() - start

        return call

    with contextlib.ExitStack() as patches:
        for stage, functions in stages.items():
            for owner, name in functions:
                function = timed(stage, getattr(owner, name))
                patches.enter_context(mock.patch.object(owner, name, function))
        total = seconds(action)
    if spent:
        spent["other"] = total - sum(spent.values())
    return {stage: round(value / total, 3) for stage, value in spent.items()}


def main(measure: Callable[[Options], Iterable[Figure]], text: str) -> int:
    """Run a benchmark's command line; the exit status is 1 if a figure is below its must."""
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--quick", action="store_true", help="tiny inputs: only shows that it runs")
    parser.add_argument("--big", action="store_true", help="the largest inputs too")
    flags = parser.parse_args()
    options = Options(flags.rounds, flags.quick, flags.big)
    with one_core():
        figures = list(measure(options))
    if flags.json:
        content = [asdict(one) | {"holds": one.holds} for one in figures]
        head = {"rounds": options.rounds, "quick": options.quick, "machine": platform.machine()}
        print(json.dumps(head | {"figures": content}, indent=1))
    else:
        print("\n".join(_table(figures)))
    return 0 if all(one.holds for one in figures) else 1


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Pin this process to one core, where the system can."""
    with cores(1):
        yield


@contextlib.contextmanager
def cores(count: int | None) -> Iterator[None]:
    """Pin this process and those it starts to `count` cores; None: to all it began with."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, sorted(before)[-count:] if count else _ALL)
        yield
    finally:
        os.sched_setaffinity(0, before)


_ALL = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _table(figures: Sequence[Figure]) -> Iterator[str]:
    yield f"{'':38}{'baseline':>10}{'ours':>10}{'ours/s':>9}{'figure':>10}{'must':>8}{'aim':>8}"
    for one in figures:
        sides = [_duration(side) for side in (one.baseline_seconds, one.seconds)]
        pace = f"{one.images / one.seconds:.0f}" if one.images and one.seconds else ""
        figure = f"{one.value:.2f} {one.unit}"
        line = f"{one.name:38}{sides[0]:>10}{sides[1]:>10}{pace:>9}{figure:>10}"
        yield f"{line}{one.must:>8g}{one.aim:>8g}{'' if one.holds else '  BELOW MUST'}"
        if one.where:
            parts = sorted(one.where.items(), key=lambda part: -part[1])
            yield "    " + ", ".join(f"{stage} {share:.0%}" for stage, share in parts)
        if one.note:
            yield f"    on {one.note}"


def _duration(value: float | None) -> str:
    if not value:
        return ""
    return f"{value:.1f} s" if value >= 10 else f"{1e3 * value:.1f} ms"


def run(measure: Callable[[Options], Iterable[Figure]], text: str) -> None:
    """Run `main` and leave with its status."""
    sys.exit(main(measure, text))
