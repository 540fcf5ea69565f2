"""The generated parts of a card, between marks, and the hash that verifies them."""

import hashlib
import re

FRONT_MATTER = "front-matter"  # name of the YAML block among the generated parts
_MARK = re.compile(r"^<!-- (?P<end>/)?generated:(?P<name>[a-z-]+) -->\n", re.MULTILINE)


def generated_parts(card: str) -> dict[str, str]:
    """Return the generated parts of a card by name, the YAML block as `front-matter`.

    Raises:
        ValueError: the card has no YAML block, or a mark is doubled, nested or without its other.
    """
    text = line_feeds(card)
    parts: dict[str, str] = {}
    if not (block := re.match(r"---\n(?P<yaml>.*?\n)---\n", text, re.DOTALL)):
        raise ValueError("The card doesn't begin with a YAML block between two lines of ---.")
    parts[FRONT_MATTER] = block["yaml"]
    opened, start = "", 0
    for mark in _MARK.finditer(text, block.end()):
        closes, name = bool(mark["end"]), mark["name"]
        line = text.count("\n", 0, mark.start()) + 1
        if closes != bool(opened) or (closes and name != opened) or name in parts:
            raise ValueError(f"README.md:{line}: {mark[0].strip()} is out of place or doubled.")
        if closes:
            parts[name] = text[start : mark.start()]
        opened, start = ("" if closes else name), mark.end()
    if opened:
        raise ValueError(f"README.md: the generated part {opened} is never closed.")
    return parts


def generated_sha256(card: str) -> str:
    """Return the sha256 over names and bodies of all generated parts, whatever the line ends."""
    state = hashlib.sha256()
    for name, body in sorted(generated_parts(card).items()):
        state.update(f"{name}\0{body}\0".encode())
    return state.hexdigest()


def prose_sha256(card: str) -> str:
    """Return the sha256 of what stands around the generated parts, whatever the line ends.

    Raises:
        ValueError: as `generated_parts`.
    """
    prose = line_feeds(card)
    for name, body in generated_parts(card).items():
        before, after = marks(name)
        prose = prose.replace(before + body + after, before + after, 1)
    return hashlib.sha256(prose.encode()).hexdigest()


def marks(name: str) -> tuple[str, str]:
    """Return what stands before and after the part `name`."""
    if name == FRONT_MATTER:
        return "---\n", "---\n"
    return f"<!-- generated:{name} -->\n", f"<!-- /generated:{name} -->\n"


def line_feeds(text: str) -> str:
    """Undo what a checkout on Windows does to line ends."""
    return text.replace("\r\n", "\n")
