"""The generated parts of a card, between marks, and the hash that verifies them.

Of the YAML block that is what stands under names that a build writes. What an owner adds under
others (a prompt for access, languages, a DOI) counts as prose.
"""

import hashlib
import re
from collections.abc import Mapping

import yaml

FRONT_MATTER = "front-matter"  # name of the YAML block among the generated parts
KEYS = frozenset(
    ("license", "license_name", "license_link", "pretty_name", "size_categories",
     "task_categories", "tags", "dataset_info", "configs")
)  # that a build may write into the YAML block  # fmt: skip
_BLOCK = re.compile(r"---\n(?P<yaml>.*?\n)---\n", re.DOTALL)
_KEY = re.compile(r"(?P<name>[^\s#\-:][^:]*):")
_MARK = re.compile(r"^<!-- (?P<end>/)?generated:(?P<name>[a-z-]+) -->\n", re.MULTILINE)


def generated_parts(card: str) -> dict[str, str]:
    """Return the generated parts of a card by name, the YAML block as `front-matter`.

    Raises:
        ValueError: the card has no YAML block, or one whose added names can't be told apart; or a
            mark is doubled, nested or without its other.
    """
    text = line_feeds(card)
    parts: dict[str, str] = {}
    block = _yaml_block(text)
    parts[FRONT_MATTER], _ = _by_owner(block["yaml"])
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
    prose = _with_parts(card, dict.fromkeys(generated_parts(card), ""))
    return hashlib.sha256(prose.encode()).hexdigest()


def keep_prose(card: str, other: str) -> str:
    """Return `card` with the generated parts of another; its prose and added YAML are kept.

    Raises:
        ValueError: `card` lacks a generated part or its marks are broken.
    """
    new, old = generated_parts(other), generated_parts(card)
    if missing := sorted(new.keys() - old.keys()):
        raise ValueError(
            f"The card lacks the generated part {', '.join(missing)}; make it anew without keeping "
            f"its prose, or put the marks back."
        )
    return _with_parts(card, new)


def with_added(card: str, other: str) -> str:
    """Return `card` with what was added to the YAML of another, if nothing was added to its own.

    Raises:
        ValueError: as `generated_parts`.
    """
    text, block = line_feeds(card), _BLOCK.match(line_feeds(other) + "\n")
    added = _by_owner(block["yaml"])[1] if block else ""
    start, end = _yaml_block(text).span("yaml")
    if not added or _by_owner(text[start:end])[1]:
        return text
    return text[:end] + added + text[end:]


def _with_parts(card: str, parts: Mapping[str, str]) -> str:
    """Return a card with other bodies of generated parts; what was added to its YAML comes last.

    Raises:
        ValueError: as `generated_parts`.
    """
    text = line_feeds(card)
    for name, body in generated_parts(card).items():
        before, after = _marks(name)
        old, new = body, parts.get(name, body)
        if name == FRONT_MATTER:
            old = _yaml_block(text)["yaml"]
            new += _by_owner(old)[1]
        text = text.replace(before + old + after, before + new + after, 1)
    return text


def _yaml_block(text: str) -> re.Match[str]:
    if block := _BLOCK.match(text):
        return block
    raise ValueError("The card doesn't begin with a YAML block between two lines of ---.")


def _by_owner(block: str) -> tuple[str, str]:
    """Part a YAML block into the lines under names of ours, and those under all others.

    Raises:
        ValueError: the others, read alone, are no names and values, or name one of ours.
    """
    parted: dict[bool, list[str]] = {True: [], False: []}
    is_ours = True
    for line in re.findall(r".*\n", block):
        if key := _KEY.match(line):
            is_ours = key["name"] in KEYS
        parted[is_ours].append(line)
    ours, others = ("".join(parted[one]) for one in (True, False))
    try:
        named = yaml.safe_load(others) or {}
    except yaml.YAMLError:
        named = None
    if not isinstance(named, dict) or KEYS & named.keys():
        raise ValueError(
            "README.md: what was added to its YAML block can't be told apart from what a build "
            "wrote. Write it as `name: value`, each name once, unquoted, at the start of a line."
        )
    return ours, others


def _marks(name: str) -> tuple[str, str]:
    """Return what stands before and after the part `name`."""
    if name == FRONT_MATTER:
        return "---\n", "---\n"
    return f"<!-- generated:{name} -->\n", f"<!-- /generated:{name} -->\n"


def line_feeds(text: str) -> str:
    """Undo what a checkout on Windows does to line ends."""
    return text.replace("\r\n", "\n")
