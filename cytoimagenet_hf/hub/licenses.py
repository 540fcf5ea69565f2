"""The one rule from the text of a license to what may be done with crops made under it.

Never guessed upward: a text is either recognized whole or its crops stay `local`. "CC BY 4.0 or
CC0" and "CC BY 3.0 (inferred)" are not recognized. Crops are derivatives, so licenses without
derivatives are `local`. Copyleft licenses for code (GPL) say nothing clear of images and are
`local` until cleared. This is a rule for sorting files, not legal advice.
"""

import datetime
import re
import unicodedata
from dataclasses import dataclass, replace

from cytoimagenet_hf.schema import TERMS

_CC_ELEMENTS = {
    ("by",): "open",
    ("by", "sa"): "sharealike",
    ("by", "nc"): "noncommercial",
    ("by", "nc", "sa"): "noncommercial",
    ("by", "nd"): "local",
    ("by", "nc", "nd"): "local",
}
JOINED = " + "  # between the licenses of all parts of one thing
_CC_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
_HUB_CC = {  # versions of Creative Commons that the Hub has an id for
    "by": ("2.0", "2.5", "3.0", "4.0"),
    "by-sa": ("3.0", "4.0"),
    "by-nc": ("2.0", "3.0", "4.0"),
    "by-nc-sa": ("2.0", "3.0", "4.0"),
    "by-nd": ("4.0",),
    "by-nc-nd": ("3.0", "4.0"),
}
_WORDED = (  # Creative Commons elements spelled out -> short, applied in this order
    (r"\bnon[ -]?commercial\b", "nc"),
    (r"\bshare[ -]?alike\b", "sa"),
    (r"\bno[ -]?deriv(?:ative)?s(?: works)?\b", "nd"),
    (r"\battribution\b", "by"),
    (r"\bcreative commons\b", "cc"),
)
_CC_URL = re.compile(
    r"https?://(?:www\.)?creativecommons\.org/(?:licenses|publicdomain)/"
    r"(?P<what>[a-z-]+)/(?P<version>\d\.\d)(?:/(?:deed(?:\.[a-z-]+)?|legalcode(?:\.[a-z-]+)?)?)?"
)
_CC = re.compile(
    r"cc[ -](?P<elements>(?:by|nc|sa|nd)(?:[ -](?:by|nc|sa|nd))*)"
    r"(?:[ -]v?(?P<version>\d(?:\.\d)?))?(?: (?:international|unported|generic))?"
)
_CC0 = re.compile(r"cc[ -]?(?:0|zero)(?:[ -]v?1\.0)?(?: universal)?(?: public domain dedication)?")
_PUBLIC_DOMAIN = re.compile(r"public domain(?: mark)?(?: 1\.0)?|pdm(?:[ -]1\.0)?")
_CODE = {  # permissive code licenses: pattern -> (canonical name, page, id on the Hub)
    r"mit": ("MIT", "https://opensource.org/license/mit", "mit"),
    r"bsd[ -]2(?:[ -]clause)?": (
        "BSD-2-Clause",
        "https://opensource.org/license/bsd-2-clause",
        "bsd-2-clause",
    ),
    r"bsd[ -]3(?:[ -]clause)?": (
        "BSD-3-Clause",
        "https://opensource.org/license/bsd-3-clause",
        "bsd-3-clause",
    ),
    r"bsd": ("BSD", "https://opensource.org/license/bsd-3-clause", "bsd"),
    r"apache(?:[ -]license)?,?(?:[ -](?:v|version )?2(?:\.0)?)?": (
        "Apache-2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
        "apache-2.0",
    ),
}
_LOCAL = {  # known and not publishable: pattern -> canonical name
    r"unknown|unclear|none|not found|no license|n/a|\?|": "unknown",
    r"in[ -]?house|proprietary|private|confidential": "in-house",
    r"(?:kaggle )?(?:competition )?(?:competition|rules)(?: rules| data)?": "competition rules",
    r"all rights reserved": "all rights reserved",
}
# Holders that the pages name in parentheses. A list, because any other remark in parentheses
# ("(images only)", "(inferred)") must make the text unknown.
_HOLDER = re.compile(r" \((?:anne carpenter|astrazeneca|ilya ravkin)\)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What may be done with crops made under a license."""

    license: str  # canonical short name ("CC BY 4.0"); the trimmed text where nobody knows it
    terms: str  # one of schema.TERMS
    publishable: bool  # the crops may be shown to others
    commercial: bool  # and used commercially
    share_alike: bool  # what is made of them carries the same license
    attribution: bool  # the makers must be named
    url: str = ""
    hub_id: str | None = None  # as `license:` of a card names it; None where the Hub has no id


@dataclass(frozen=True, slots=True, kw_only=True)
class Clearance:
    """A recorded permission for data whose license alone doesn't allow publishing.

    Attributes:
        statement: what the holder of the rights wrote, word for word.
        address: where it can be read again: the page's URL, or the holder's mail address.
        date: the day it was read or received, as YYYY-MM-DD.
        license: the license it grants. Empty: crops may be published, and nothing is said of other
            uses, so they count as noncommercial.

    Raises:
        ValueError: a part is empty or not of this form, or `license` allows no publishing.
    """

    statement: str
    address: str
    date: str
    license: str = ""

    def __post_init__(self) -> None:
        if not self.statement.strip():
            raise ValueError("A clearance needs the statement of the holder, word for word.")
        if not re.fullmatch(r"https?://[^\s/]+\.\S+|[^\s@]+@[^\s@]+\.[^\s@]+", self.address):
            raise ValueError(
                f"A clearance needs the URL or mail address where it can be read again, "
                f"not {self.address!r}."
            )
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.date):
            raise ValueError(f"The date of a clearance is written YYYY-MM-DD, not {self.date!r}.")
        datetime.date.fromisoformat(self.date)
        if self.license and not _recognize(self.license).publishable:
            raise ValueError(
                f"The clearance grants {self.license!r}, which allows no publishing of crops. Name "
                f"the license that the statement grants, or leave it empty for a bare permission."
            )


def terms_of(license: str, *, clearance: Clearance | None = None) -> Terms:
    """Return the terms of crops made from data under `license`.

    Args:
        license: as the source's page words it; empty or unrecognized is `local`.
        clearance: a recorded permission for data that would be `local`.

    Raises:
        ValueError: a clearance is given where none is needed (the license allows publishing), or
            where none can be (in-house data is never published).
    """
    found = _recognize(license)
    if clearance is None:
        return found
    if found.publishable:
        raise ValueError(f"{found.license} allows publishing; it needs no clearance.")
    if found.license == "in-house":
        raise ValueError("In-house data is never published, cleared or not.")
    if clearance.license:
        return _recognize(clearance.license)
    return replace(
        found,
        license=f"{found.license}, by permission",
        terms="noncommercial",
        publishable=True,
        attribution=True,
    )


def strictest(*parts: Terms | str) -> Terms:
    """Combine the terms of all parts that one thing (weights, a data set) is made of.

    Raises:
        ValueError: no parts; nothing is known of what is made of nothing.
    """
    known = [terms_of(part) if isinstance(part, str) else part for part in parts]
    if not known:
        raise ValueError("The terms of nothing are not defined; pass at least one license.")
    if len(set(known)) == 1:
        return known[0]
    return Terms(
        license=JOINED.join(sorted({one.license for one in known})),
        terms=max((one.terms for one in known), key=TERMS.index),
        publishable=all(one.publishable for one in known),
        commercial=all(one.commercial for one in known),
        share_alike=any(one.share_alike for one in known),
        attribution=any(one.attribution for one in known),
    )


def commercial_terms() -> tuple[str, ...]:
    """Classes of terms whose crops may be used commercially, in the order of `schema.TERMS`."""
    return ("open", "sharealike")


def _recognize(license: str) -> Terms:
    text = " ".join(unicodedata.normalize("NFKC", license).split())
    plain = _plain(text)
    if twice := re.fullmatch(r"(?P<long>.+?) \((?P<short>cc[^()]*)\)", plain):
        found, short = _creative_commons(twice["long"]), _creative_commons(twice["short"])
        # "Attribution 4.0 (CC BY-NC)" contradicts itself: nobody knows which is meant.
        agree = found and short and short.license in (found.license, found.license[:-4])
        return found if found and agree else _local(plain, text)
    return _creative_commons(plain) or _code(plain) or _local(plain, text)


def _plain(text: str) -> str:
    """Fold case and dashes; cut the holder's name and the words "the" and "license" around."""
    folded = re.sub(r"[\u2010-\u2015_]", "-", text.casefold()).strip(" .")
    return re.sub(r"^the |,? licen[sc]ed?$", "", _HOLDER.sub("", folded))


def _creative_commons(text: str) -> Terms | None:
    if url := _CC_URL.fullmatch(text):
        text = {"zero": "cc0", "mark": "public domain"}.get(
            url["what"], f"cc {url['what']} {url['version']}"
        )
    if _PUBLIC_DOMAIN.fullmatch(text):
        return _open("public domain", "https://creativecommons.org/publicdomain/mark/1.0/", None)
    for pattern, short in _WORDED:
        text = re.sub(pattern, short, text)
    if _CC0.fullmatch(text):
        return _open("CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0")
    if not (hit := _CC.fullmatch(text)):
        return None
    elements = tuple(re.split("[ -]", hit["elements"]))
    version = hit["version"] or ""
    version = f"{version}.0" if len(version) == 1 else version
    in_order = tuple(one for one in ("by", "nc", "sa", "nd") if one in elements)
    if len(elements) != len(in_order) or in_order not in _CC_ELEMENTS:
        return None  # CC BY-SA-ND and the like don't exist
    if version and version not in _CC_VERSIONS:
        return None
    return _attributed(in_order, version)


def _attributed(elements: tuple[str, ...], version: str) -> Terms:
    terms = _CC_ELEMENTS[elements]
    slug = "-".join(elements)
    return Terms(
        license=f"CC {slug.upper()} {version}".strip(),
        terms=terms,
        publishable=terms != "local",
        commercial=terms in commercial_terms(),
        share_alike="sa" in elements,
        attribution=True,
        url=f"https://creativecommons.org/licenses/{slug}/{version}/" if version else "",
        hub_id=f"cc-{slug}-{version}" if version in _HUB_CC[slug] else None,
    )


def _code(text: str) -> Terms | None:
    for pattern, (name, url, hub_id) in _CODE.items():
        if re.fullmatch(pattern, text):
            return _open(name, url, hub_id, attribution=True)
    return None


def _open(name: str, url: str, hub_id: str | None, *, attribution: bool = False) -> Terms:
    return Terms(
        license=name,
        terms="open",
        publishable=True,
        commercial=True,
        share_alike=False,
        attribution=attribution,
        url=url,
        hub_id=hub_id,
    )


def _local(plain: str, text: str) -> Terms:
    known = (name for pattern, name in _LOCAL.items() if re.fullmatch(pattern, plain))
    return Terms(
        license=next(known, text),
        terms="local",
        publishable=False,
        commercial=False,
        share_alike=False,
        attribution=True,
    )
