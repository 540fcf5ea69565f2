"""Drawing on a terminal: progress with rates, and tables of plain text."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cytoimagenet_hf.curation.summary import Summary

_WIDEST = 60  # characters of a table's cell


class Bars:
    """Progress of a build as bars with rates on standard error; plain lines where no one looks."""

    def __init__(self) -> None:
        self._bar: Any = None

    def start(self, stage: str, total: int, unit: str) -> None:
        """Begin a bar."""
        from tqdm import tqdm

        self.close()
        lively = sys.stderr.isatty()
        units = {"unit": "B", "unit_scale": True} if unit == "byte" else {"unit": f" {unit}s"}
        self._bar = tqdm(
            total=total,
            desc=f"{stage:9}",
            dynamic_ncols=True,
            mininterval=0.1 if lively else 10,
            disable=total == 0,
            **units,
        )

    def step(self, done: int, note: str = "") -> None:
        """Move the bar."""
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done)

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """End the bar that is open."""
        if self._bar is not None:
            self._bar.close()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay out a table in columns; numbers stand right, long cells are cut with an ellipsis."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(title), *(len(row[at]) for row in cells), 0) if cells else len(title)
        for at, title in enumerate(head)
    ]
    right = [
        bool(rows) and all(isinstance(row[at], int | float) for row in rows)
        for at in range(len(head))
    ]

    def line(row: Sequence[str]) -> str:
        placed = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ]
        return "  ".join(placed).rstrip()

    return "\n".join([line(list(head)), line(["-" * width for width in widths]), *map(line, cells)])


def summary_text(summary: "Summary", seconds: float) -> str:
    """Tell at the end of a build what it came to."""
    lines = [f"note: {note}" for note in summary.notes]
    if lines:
        lines.append("")
    what = f"{summary.fields:,} fields, {summary.records:,} records of {summary.sources} sources"
    if not summary.build:
        lines.append(
            f"Plan only: {what} → {summary.labels:,} labels, {summary.crops:,} crops wanted, "
            f"about {summary.estimated_bytes / 1e6:,.0f} MB on disk."
        )
        return "\n".join(lines)
    lines += [
        f"{what} → {summary.crops:,} crops in {summary.labels:,} classes",
        _counts("splits", summary.splits),
        _counts("terms", summary.terms),
        f"records: {summary.rendered:,} rendered, {summary.reused:,} reused, "
        f"{summary.dropped:,} no longer wanted",
    ]
    if summary.excluded:
        rows = sorted(summary.excluded.items(), key=lambda one: (-one[1], one[0]))
        lines += ["", table(("left out", "count"), rows)]
    state = "written" if summary.is_new else "unchanged"
    lines += [
        "",
        f"{summary.output}: {state}, build {summary.build}, in {seconds:.1f} s",
        f"manifest sha256 {summary.manifest_sha256}",
    ]
    return "\n".join(lines)


def clock() -> float:
    """Seconds, for differences."""
    return time.monotonic()


def _counts(name: str, counts: object) -> str:
    assert isinstance(counts, dict)
    return f"{name}: " + ", ".join(f"{key} {value:,}" for key, value in counts.items())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    text = f"{value:,}" if isinstance(value, int) else str("" if value is None else value)
    text = " ".join(text.split())
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
