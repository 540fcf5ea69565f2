"""Series of an OME-TIFF: which directory of the file holds which plane.

Read with the standard library's parser, without any file but the one that is open. Planes that the
XML places in another file have no directory here.
"""

from xml.etree import ElementTree

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.schema import Limits

Series = list[dict[int, int]]  # a series: plane number -> directory number
_MAX_XML = 16 << 20  # bytes


def ome_series(
    description: bytes, directories: int, limits: Limits
) -> tuple[Series, list[int]] | None:
    """Return where the planes of each series stand, and how many each one has; None if not OME.

    Planes are numbered in the file's DimensionOrder, the first dimension after XY fastest.

    Args:
        description: the first directory's ImageDescription.
        directories: how many the file has.
        limits: bounds the planes of a series.

    Raises:
        ImageRefusedError: `too large`, a series of more planes than `limits.pages`.
    """
    root = _parse(description)
    if root is None:
        return None
    places: Series = []
    sizes: list[int] = []
    found = 0
    for pixels in root.iterfind("{*}Image/{*}Pixels"):
        order, size = _dimensions(pixels)
        planes = size["C"] * size["Z"] * size["T"]
        if planes > limits.pages:
            raise ImageRefusedError("too large", f"{planes} planes, more than {limits.pages}")
        places.append(_places(pixels, order, size, (root.get("UUID"), directories)))
        sizes.append(planes)
        found += max(1, len(places[-1]))
        if found > limits.pages:
            raise ImageRefusedError("too large", f"more than {limits.pages} planes in all series")
    return (places, sizes) if places else None


def _parse(description: bytes) -> ElementTree.Element | None:
    """Return the OME element; None for other texts and broken ones (the pages are still right)."""
    text = description.strip(b"\0 \r\n\t")
    if not text.startswith((b"<?xml", b"<OME", b"<ome:OME")) or len(text) > _MAX_XML:
        return None
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # OME-XML has neither; entities can explode
        return None
    try:
        root = ElementTree.fromstring(text.decode("utf-8", "replace"))
    except (ElementTree.ParseError, ValueError):
        return None
    return root if root.tag.rpartition("}")[2] == "OME" else None


def _dimensions(pixels: ElementTree.Element) -> tuple[str, dict[str, int]]:
    """Return the order of C, Z and T (fastest first) and their sizes in planes."""
    order = pixels.get("DimensionOrder", "XYCZT").upper().replace("X", "").replace("Y", "")
    size = {axis: _number(pixels, f"Size{axis}", 1) for axis in "CZT"}
    channel = pixels.find("{*}Channel")
    samples = 1 if channel is None else _number(channel, "SamplesPerPixel", 1)
    size["C"] = max(1, size["C"] // max(1, samples))
    if sorted(order) != ["C", "T", "Z"] or min(size.values()) < 1:
        raise ImageRefusedError("unreadable", f"OME-XML with dimensions {order} {size}")
    return order, size


def _places(
    pixels: ElementTree.Element, order: str, size: dict[str, int], file: tuple[str | None, int]
) -> dict[int, int]:
    """Return the directory of each plane that stands in this file (its UUID, its directories)."""
    own, directories = file
    planes = size["C"] * size["Z"] * size["T"]
    places: dict[int, int] = {}
    blocks = 0
    for data in pixels.iterfind("{*}TiffData"):
        uuid = data.find("{*}UUID")
        if uuid is not None and (uuid.text or "").strip() != own:
            continue
        first, step = 0, 1
        for axis in order:
            first += step * _number(data, f"First{axis}", 0)
            step *= size[axis]
        directory = _number(data, "IFD", 0)
        count = _number(data, "PlaneCount", 1 if "IFD" in data.attrib else planes)
        for number in range(min(count, planes - first, directories - directory)):
            places.setdefault(first + number, directory + number)
        blocks += 1
        if blocks > planes:
            raise ImageRefusedError("unreadable", f"OME-XML with {planes} planes in more blocks")
    return places


def _number(element: ElementTree.Element, name: str, default: int) -> int:
    text = element.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ImageRefusedError("unreadable", f"OME-XML with {name}={text[:20]!r}")
    return int(text)
