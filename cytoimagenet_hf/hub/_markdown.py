"""Markdown from text that nobody vouches for: tables, cells and links."""

import html
import re
import unicodedata
from collections.abc import Sequence

_PLAIN_URL = re.compile(r"https?://[^\s()<>|\[\]\\]+")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: int = 0) -> str:
    """Draw a Markdown table; the last `right` columns are aligned to the right."""
    left = len(header) - right
    lines = [header, ["---"] * left + ["---:"] * right, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def text(raw: str) -> str:
    """Make text from outside safe in a table's cell: one line, no HTML, no markup, no math."""
    kept = "".join(c for c in raw if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf"))
    plain = html.escape(" ".join(kept.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$])", r"\\\1", plain)


def link(label: str, url: str) -> str:
    """Link the label, or give it alone where the address isn't a plain web address."""
    return f"[{text(label)}]({url})" if _PLAIN_URL.fullmatch(url) else text(label)
