"""Scores for people: a table in the shape of the paper's Table 2, as text, Markdown and HTML.

The best of a row is set in bold only where it is shown to be better than every other one; else it
and what it can't be told from are marked as ties (design 10: ties stay ties).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from cytoimagenet_hf import files
from cytoimagenet_hf.evaluation import _plots, statistics
from cytoimagenet_hf.evaluation._plots import Points
from cytoimagenet_hf.evaluation._sections import Cell, Facts, Section, examples, main_table
from cytoimagenet_hf.evaluation._sections import sections as build_sections
from cytoimagenet_hf.evaluation.comparing import Pair
from cytoimagenet_hf.evaluation.results import Score, slug
from cytoimagenet_hf.hashing import fingerprint
from cytoimagenet_hf.hub import _markdown

__all__ = ["Facts", "Points", "text_table", "write_report"]

SIMULATED = (
    "SIMULATED IMAGES. Rows marked so show no real cells: they try the software, and their figures "
    "say nothing of any encoder nor of biology."
)


def write_report(folder: Path, facts: Facts) -> list[Path]:
    """Write report.html (which holds its pictures), report.md and the pictures.

    Returns:
        The files, the page first.

    Raises:
        DiskError: a file can't be written.
        ValueError: two scores of one encoder on the same row.
    """
    pictures = _draw(folder, facts)
    parts = build_sections(facts, pictures)
    simulated = any(score.simulated for score in facts.scores)
    page, text = folder / "report.html", folder / "report.md"
    files.write_text(page, _html(parts, simulated))
    files.write_text(text, _markdown_page(parts, simulated))
    return [page, text, *pictures]


def text_table(scores: Sequence[Score], pairs: Sequence[Pair] = ()) -> str:
    """Lay out scores for a terminal: a row a task, protocol and mode, a column an encoder.

    With pairs the best of a row is marked `*`, or `=` together with its ties.
    """
    head, rows = main_table(scores, pairs, intervals=False)
    marked = [[f"{cell.text}{' *' if cell.is_bold else ''}" for cell in row] for row in rows]
    lines = [[_printable(text) for text in line] for line in (head, *marked)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _draw(folder: Path, facts: Facts) -> list[Path]:
    """Draw what can be drawn; return the pictures that were."""
    made = []
    for task in sorted({score.task for score in facts.scores}):
        own = [score for score in facts.scores if score.task == task]
        path = folder / _picture_name("accuracies", task)
        if _plots.draw_accuracies(own, facts.pairs, path):
            made.append(path)
    for row, score in examples(facts).items():
        outcome = facts.outcomes[score.identity]
        labels = list(score.classes)
        counts = statistics.confusion(outcome.truth, outcome.predicted, labels).astype(float)
        path = folder / _picture_name("confusion", row.task)
        if _plots.draw_confusion(row, score, counts, labels, path):
            made.append(path)
    for task in sorted({one.task for one in facts.points}):
        several = [one for one in facts.points if one.task == task]
        path = folder / _picture_name("features", task)
        if _plots.draw_points(task, several, path):
            made.append(path)
    return made


def _picture_name(kind: str, task: str) -> str:
    """Name a picture; tasks whose cleaned names are equal stay apart."""
    clean = slug(task)
    return f"{kind}-{clean}{'' if clean == task else '-' + fingerprint([task], digits=6)}.png"


def _html(sections: Sequence[Section], simulated: bool) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["picture"] = _picture
    template = resources.files(__package__).joinpath("_report.html.jinja")
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        sections=sections, banner=SIMULATED if simulated else ""
    )


def _markdown_page(sections: Sequence[Section], simulated: bool) -> str:
    parts = ["# Scores", *([f"> **{SIMULATED}**"] if simulated else [])]
    for section in sections:
        parts.append(f"## {section.title}")
        parts += [_markdown.text(text) for text in section.texts]
        if section.rows:
            rows = [[_marked(cell) for cell in row] for row in section.rows]
            head = [_markdown.text(name) for name in section.head]
            parts.append(_markdown.table(head, rows, right=section.right))
        parts += [f"![{path.stem}]({path.name})" for path in section.pictures]
    return "\n\n".join(parts) + "\n"


def _marked(cell: Cell) -> str:
    return f"**{_markdown.text(cell.text)}**" if cell.is_bold else _markdown.text(cell.text)


def _picture(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _printable(text: str) -> str:
    """Make one line without what could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
