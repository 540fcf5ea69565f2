"""One spelling for each value: `canonical(category, text) -> Canonical(value, reason)`.

The catalog calls it for each raw value of a source or table. Synonyms are merged and controls are
dropped here and nowhere else, each with the reason that the report shows. Whole values are
compared, never parts of them: "er" is not in "fever".
"""

import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from cytoimagenet_hf.schema import CATEGORIES, JOINT

MAX_LENGTH = 300  # characters; the longest real compound names have about 200
TARGETED = " targeted"  # keeps a gene apart from the stained protein of the same name

_LINE = "another spelling of the cell line"
_SAME = "another name of the same structure"
_LATIN = "scientific name of the organism"
_SUBTYPE = "the paper merges the subtypes of white blood cells"

SYNONYMS: Mapping[str, Mapping[str, tuple[str, str]]] = {  # category -> text -> (value, reason)
    "compound": {
        "dimethyl sulfoxide": ("dmso", "full name of the solvent"),
        "dimethylsulfoxide": ("dmso", "full name of the solvent"),
    },
    "cell_visible": {
        "nuclei": ("nucleus", "plural of the same structure"),
        "nucleolus": ("nucleoli", "singular of the same structure"),
        "mitochondrion": ("mitochondria", "singular of the same structure"),
        "microtubule": ("microtubules", "singular of the same structure"),
        "endoplasmic reticulum": ("er", _SAME),
        "golgi apparatus": ("golgi", _SAME),
        "plasma membrane": ("cell membrane", _SAME),
        "gpcr": ("cell membrane", "the receptors mark the membrane; so merged in the paper"),
        "cytosol": ("cell body", "the paper calls what fills the cell its body"),
    },
    "cell_type": {
        "u-2 os": ("u2os", _LINE),
        "u2-os": ("u2os", _LINE),
        "u-2os": ("u2os", _LINE),
        "u2 os": ("u2os", _LINE),
        **dict.fromkeys(
            ("neutrophil", "t cell", "b cell", "monocyte", "eosinophil", "leukocyte"),
            ("white blood cell", _SUBTYPE),
        ),
    },
    "organism": {
        "homo sapiens": ("human", _LATIN),
        "mus musculus": ("mouse", _LATIN),
        "saccharomyces cerevisiae": ("yeast", _LATIN),
        "caenorhabditis elegans": ("nematode", _LATIN),
        "drosophila melanogaster": ("fly", _LATIN),
    },
}

_ABSENT = "says that nothing is known or applies"
_UNTREATED = "control: nothing was added"
_HAIRPIN = "control: a hairpin against no gene of the cell"
CONTROLS: Mapping[str, str] = {  # text -> reason; in no category a label
    "": "empty",
    "empty": _UNTREATED,
    "blank": _UNTREATED,
    "untreated": _UNTREATED,
    "mock": _UNTREATED,
    **dict.fromkeys(("unk", "unknown", "none", "null", "nan", "n/a"), _ABSENT),
}
_CONTROLS_OF: Mapping[str, Mapping[str, str]] = {  # controls in one category only
    "gene": dict.fromkeys(("shluc", "shlamin", "pgk-gfp"), _HAIRPIN),
    "sirna": dict.fromkeys(("shluc", "shlamin", "pgk-gfp"), _HAIRPIN),
    "phenotype": {"dmso": "DMSO is a compound, never a phenotype"},
}


class Canonical(NamedTuple):
    """A value in its one spelling, or None, and why it differs from what was written."""

    value: str | None
    reason: str  # "" where the text was canonical already


def canonical(category: str, text: str) -> Canonical:
    """Bring one raw value to the spelling under which it is counted (design 4, 6).

    Trimmed, white space collapsed, invisible characters dropped, Unicode NFC, lower case; synonyms
    merged; genes end in " targeted" once. Applying it to its own value changes nothing.

    Args:
        category: one of `schema.CATEGORIES`.
        text: one value as the source writes it.

    Returns:
        The value, or None for a control or an empty text; the reason of any change.

    Raises:
        ValueError: unknown category, a value with "|", or one longer than `MAX_LENGTH`.
    """
    if category not in CATEGORIES:
        raise ValueError(f"Unknown category {category!r}; there are {', '.join(CATEGORIES)}.")
    if JOINT in text:
        raise ValueError(
            f"{category} {text!r} holds {JOINT!r}, which separates values: split it first."
        )
    plain = _plain(text)
    if len(plain) > MAX_LENGTH:
        raise ValueError(
            f"{category} {plain[:40]!r}… has {len(plain)} characters, at most {MAX_LENGTH} are "
            f"allowed: is it a value of another column?"
        )
    if category == "gene":
        plain = plain.removesuffix(TARGETED)
    dropped = CONTROLS.get(plain) or _CONTROLS_OF.get(category, {}).get(plain)
    if dropped:
        return Canonical(None, dropped)
    value, reason = _merged(category, plain)
    return Canonical(value, reason if value != text else "")


def _merged(category: str, plain: str) -> tuple[str, str]:
    """Return the value that stands for a plain text, and the reason of the change."""
    if category == "gene":
        return plain + TARGETED, "genes end in ' targeted'"
    if category == "cell_type" and plain.startswith("white blood cell ("):
        return "white blood cell", _SUBTYPE
    return SYNONYMS.get(category, {}).get(plain, (plain, "case, white space or Unicode form"))


def _plain(text: str) -> str:
    """Trim, collapse white space, drop invisible characters, compose, lower."""
    spaced = " ".join(text.split())
    visible = "".join(one for one in spaced if unicodedata.category(one) not in ("Cc", "Cf"))
    lowered = unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).lower())
    return " ".join(lowered.split())
