"""The parts of a report as tables of text; how they are drawn is report.py's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cytoimagenet_hf.evaluation import comparing, statistics
from cytoimagenet_hf.evaluation._plots import Points
from cytoimagenet_hf.evaluation.comparing import Pair, Row
from cytoimagenet_hf.evaluation.results import Score
from cytoimagenet_hf.evaluation.scoring import Outcome

_TIE = "="  # beside the best and what it can't be told from
_FUSION = "cytoimagenet+imagenet"  # what the paper calls fusion
_PUBLISHED_MODE = "concat-norm"  # the paper shows figures of no other (protocols.md 4)
_LEAST_P = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a report shows."""

    scores: Sequence[Score]
    pairs: Sequence[Pair] = ()  # see comparing.compare
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Task -> protocol -> column -> accuracy in percent."""
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)  # by identity of their score
    points: Sequence[Points] = ()
    notes: Sequence[str] = ()  # what wasn't scored, and why


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, paragraphs, a table, pictures beside the page."""

    title: str
    texts: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = ()
    right: int = 0  # last columns that hold numbers
    pictures: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a table, bold or not."""

    text: str
    is_bold: bool = False


def sections(facts: Facts, pictures: Sequence[Path]) -> list[Section]:
    """Return the parts of a report that have something to show."""

    def some(start: str) -> list[Path]:
        return [path for path in pictures if path.name.startswith(start)]

    made = [
        _accuracies(facts, some("accuracies")),
        _published(facts),
        _pairs(facts),
        Section("Confusion", pictures=some("confusion")),
        _classes(facts),
        Section("Features", pictures=some("features")),
        _counts(facts.scores),
        _encoders(facts.scores),
        Section("Not scored", texts=facts.notes),
    ]
    return [one for one in made if one.rows or one.pictures or one.texts]


def _accuracies(facts: Facts, pictures: Sequence[Path]) -> Section:
    head, rows = main_table(facts.scores, facts.pairs, intervals=True)
    texts = [
        f"Accuracy in percent with its 95 % interval; of random weights the mean and the range of "
        f"seeds. Bold: better than every other of its row (Holm-adjusted p < {comparing.ALPHA}); "
        f"{_TIE}: the best and what can't be told from it. Largest class: what one gets by always "
        f"naming it. An encoder that scored fewer than n says of how many."
    ]
    return Section("Accuracy", texts if rows else (), head, rows, len(head) - 1, pictures)


def main_table(
    scores: Sequence[Score], pairs: Sequence[Pair], *, intervals: bool
) -> tuple[list[str], list[list[Cell]]]:
    names = comparing.columns(scores)
    head = ["", "n", "largest class", *names]
    rows = []
    for row, cells in comparing.tabulate(scores).items():
        full = comparing.fullest(cells)
        leaders = comparing.leaders(cells, row, pairs) if pairs else []
        largest = max(counts[0] for counts in full.classes.values()) / full.n
        line = [Cell(_name(row, full)), Cell(f"{full.n:,}"), Cell(_percent(largest))]
        for name in names:
            text = _accuracy(cells.get(name, ()), full, intervals=intervals)
            is_best = name in leaders
            is_tie = is_best and len(leaders) > 1
            line.append(Cell(f"{text} {_TIE}" if is_tie else text, leaders == [name]))
        rows.append(line)
    return head, rows


def _accuracy(scores: Sequence[Score], full: Score, *, intervals: bool) -> str:
    """Return what stands in one cell: accuracy, interval or range, and n where it is less."""
    if not scores:
        return ""
    notes = []
    if intervals:
        low, high = scores[0].low, scores[0].high
        if len(scores) > 1:
            low, high = (pick(one.accuracy for one in scores) for pick in (min, max))
        notes.append("no interval" if low is None or high is None else _span(low, high))
        notes += [f"{len(scores)} seeds"] if len(scores) > 1 else []
    notes += [less] if (less := comparing.shortfall(scores, full)) else []
    text = _percent(comparing.mean(scores))
    return f"{text} ({'; '.join(notes)})" if notes else text


def _classes(facts: Facts) -> Section:
    """List recall and precision by class, of the encoders whose confusion is drawn."""
    rows = []
    for row, score in examples(facts).items():
        for label, (n, given, right) in score.classes.items():
            low, high = statistics.wilson(right, n) if n else (0.0, 1.0)
            recall = f"{_percent(right / n)} ({_span(low, high)})" if n else "never true"
            precision = _percent(right / given) if given else "never predicted"
            texts = (_name(row, score), score.encoder, label, f"{n:,}", recall, precision)
            rows.append([Cell(text) for text in texts])
    notes = [
        "Of the best encoder on each task, in percent. Intervals are Wilson's: too narrow where "
        "rows of a cluster are alike."
    ]
    head = ("", "encoder", "label", "n", "recall", "precision")
    return Section("Classes", notes if rows else (), head, rows, 3)


def _published(facts: Facts) -> Section:
    """Set our figures beside the published ones; nothing simulated is ever compared."""
    rows = []
    for row, cells in comparing.tabulate(facts.scores).items():
        figures = facts.published.get(row.task, {}).get(row.protocol, {})
        known = {_parts(_FUSION if name == "fusion" else name): figures[name] for name in figures}
        for name, scores in cells.items() if row.mode == _PUBLISHED_MODE else ():
            if (figure := known.get(_parts(name))) is None:
                continue
            ours = comparing.mean(scores) * 100
            mark = (
                "not comparable" if scores[0].simulated else f"{round(ours - figure, 1) + 0.0:+.1f}"
            )
            texts = (_name(row, scores[0]), name, f"{ours:.1f}", f"{figure:.2f}", mark)
            rows.append([Cell(text) for text in texts])
    notes = [
        "The paper's figures (Table 2) were taken with one seed, an ImageNet network fed with "
        "wrongly normalized input, and fused features of which rows may not have been of the same "
        "images. Simulated images are not those of the paper, so nothing follows from a difference."
    ]
    head = ("", "encoder", "ours", "published", "difference")
    return Section("Beside the published figures", notes if rows else (), head, rows, 3)


def _parts(encoder: str) -> tuple[str, ...]:
    """Return what is joined in a fusion, in whatever order it was written."""
    return tuple(sorted(encoder.split("+")))


def _pairs(facts: Facts) -> Section:
    names = {
        row: _name(row, next(iter(cells.values()))[0])
        for row, cells in comparing.tabulate(facts.scores).items()
    }
    rows = []
    for pair in facts.pairs:
        found = pair.found
        texts = (
            names.get(pair.row, str(pair.row)),
            f"{pair.first} against {pair.second}",
            found.method
            + (f", {found.clusters:,} clusters" if 0 < found.clusters < found.n else ""),
            f"{found.difference * 100:+.1f} ({_span(found.low, found.high, '+')})",
            _p(found.p),
            _p(pair.adjusted),
        )
        is_clear = pair.adjusted < comparing.ALPHA
        rows.append([Cell(text, is_clear and at == 5) for at, text in enumerate(texts)])
    notes = [
        "Differences of accuracy in points, on the same ids, with 95 % intervals; whole clusters "
        "are resampled where they are known. p is adjusted over the pairs of a row (Holm). Of "
        "random weights the lowest seed is compared."
    ]
    head = ("", "first against second", "test", "difference", "p", "adjusted p")
    return Section("Which differ", notes if rows else (), head, rows, 3)


def _counts(scores: Sequence[Score]) -> Section:
    """List what was counted, and what not with its reason, once for scores that agree."""
    seen: dict[tuple[str, ...], list[str]] = {}
    for score in scores:
        unscorable = score.unscorable.items()
        lost = [
            *(f"{reason}: {_number(n, 'query', 'queries')}" for reason, n in unscorable),
            *(f"{reason}: {_number(n, 'image', 'images')}" for reason, n in score.left_out.items()),
            *(f"{reason}: {count:,} not in the task" for reason, count in score.dropped.items()),
        ]
        clusters = f"{score.clusters:,}" if score.clusters else "none known"
        counts = (f"{score.n:,}", f"{score.bank_size:,}", clusters, score.interval)
        key = (_name(comparing.row_of(score), score), *counts, "; ".join(lost) or "nothing")
        seen.setdefault(key, []).append(score.encoder)
    rows = [
        [Cell(key[0]), Cell(", ".join(dict.fromkeys(names))), *map(Cell, key[1:])]
        for key, names in seen.items()
    ]
    head = ("", "encoders", "scored", "bank", "clusters", "interval", "left out")
    return Section("What was counted", (), head, rows)


def _encoders(scores: Sequence[Score]) -> Section:
    """List where features come from: revisions of weights, preprocessing, dimensions."""
    rows: dict[tuple[str, ...], None] = {}
    for score in scores:
        for part in score.parts:
            name = str(part.get("encoder", score.encoder))
            seed = "" if score.seed is None or "random" not in name else f" (seed {score.seed})"
            known = (str(part.get(key, "")) for key in ("mode", "dim", "preprocessing", "revision"))
            mode, dim, preprocessing, revision = known
            rows[(name + seed, mode, dim, preprocessing, revision[:12])] = None
    head = ("encoder", "mode", "dimensions", "preprocessing", "revision")
    return Section("Encoders", (), head, [list(map(Cell, row)) for row in sorted(rows)])


def examples(facts: Facts) -> dict[Row, Score]:
    """Choose the best encoder of each task's first row, among those whose predictions are here."""
    chosen: dict[str, tuple[Row, Score]] = {}
    for row, cells in comparing.tabulate(facts.scores).items():
        known = [scores[0] for scores in cells.values() if scores[0].identity in facts.outcomes]
        if known and row.task not in chosen:
            chosen[row.task] = (row, max(known, key=lambda one: one.accuracy))
    return dict(chosen.values())


def _name(row: Row, score: Score) -> str:
    return f"{row} [simulated]" if score.simulated else str(row)


def _number(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _percent(share: float) -> str:
    return f"{share * 100:.1f}"


def _span(low: float, high: float, sign: str = "") -> str:
    return f"{low * 100:{sign}.1f} to {high * 100:{sign}.1f}"


def _p(value: float) -> str:
    return f"< {_LEAST_P:.4f}" if value < _LEAST_P else f"{value:.4f}"
