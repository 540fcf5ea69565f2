"""What is made of an image's channels before an encoder sees them: the paper's modes, and more.

A mode is written `combine-scaling`, as in `concat-norm`, with `@side` where images are resized:

- combine: `concat` embeds each channel alone and joins the vectors in channel order; `merge`
  averages the channels (after scaling) and embeds once; `joint` passes all channels at once to
  encoders that take so many.
- scaling: `norm` stretches each channel of each image between its 0.1 and 99.9 percentiles to
  0..255 (paper 2.2), without rounding; `raw` passes counts as they are, so that 16-bit images
  enter networks made for 0..255 (protocols 6.8); `dtype` divides by the largest value of the
  image's type and multiplies by 255 (floats must lie in 0..1).
- `@side`: squashed to a square of so many pixels, bilinear with antialiasing, after scaling.
  Without it images go in at native size (see `NetworkEncoder.embed` for sizes that aren't multiples
  of 32).
"""

import re
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from cytoimagenet_hf.errors import ImageRefusedError
from cytoimagenet_hf.imaging.intensity import percentiles

Combine = Literal["concat", "merge", "joint"]
Scaling = Literal["norm", "raw", "dtype"]
FULL = 255.0
_LARGEST = 1e38  # float32 holds it, with room for differences
_PATTERN = re.compile(r"(\w+)-(\w+)(?:@([0-9]{1,5}))?", re.ASCII)
_SIDES = (8, 4096)  # pixels; of resized images


@dataclass(frozen=True, slots=True)
class Mode:
    """How an image's channels become what an encoder sees."""

    combine: Combine
    scaling: Scaling
    size: int | None = None  # side in pixels that images are resized to

    def __post_init__(self) -> None:
        """Refuse what no image can be made into.

        Raises:
            ValueError: an unknown word, or a side out of range.
        """
        words = ((self.combine, get_args(Combine)), (self.scaling, get_args(Scaling)))
        for word, known in words:
            if word not in known:
                raise ValueError(f"Unknown mode {word!r}; there are {', '.join(known)}.")
        if self.size is not None and not _SIDES[0] <= self.size <= _SIDES[1]:
            raise ValueError(f"Images can be resized to {_SIDES[0]}..{_SIDES[1]}, not {self.size}.")

    @property
    def name(self) -> str:
        """The mode as it is written: concat-norm, merge-raw@224."""
        return f"{self.combine}-{self.scaling}" + (f"@{self.size}" if self.size else "")


def parse_mode(text: str) -> Mode:
    """Read a mode as it is written.

    Raises:
        ValueError: it is none; says how they are written.
    """
    found = _PATTERN.fullmatch(text)
    if not found:
        known = ", ".join(mode.name for mode in MODES)
        raise ValueError(f"No mode {text!r}; there are {known}, each also with @224 and the like.")
    combine, scaling, size = found.groups()
    return Mode(cast(Combine, combine), cast(Scaling, scaling), int(size) if size else None)


PAPER_MODES = (
    Mode("concat", "norm"),
    Mode("merge", "norm"),
    Mode("concat", "raw"),
    Mode("merge", "raw"),
)
MODES = (
    *PAPER_MODES,
    Mode("concat", "dtype"),
    Mode("merge", "dtype"),
    Mode("joint", "norm"),
    Mode("joint", "raw"),
    Mode("joint", "dtype"),
)


def prepare(planes: npt.NDArray[Any], mode: Mode) -> npt.NDArray[np.float32]:
    """Scale an image's channels, and merge and resize them where the mode says so.

    Args:
        planes: (channels, height, width) at native depth.
        mode: the scaling and what comes after.

    Returns:
        (channels or 1, height, width) float32.

    Raises:
        ImageRefusedError: the image has no pixels or a channel can't be scaled: it isn't finite, is
            constant between its percentiles (`norm`), or a float out of 0..1 (`dtype`).
    """
    if planes.ndim != 3 or 0 in planes.shape:
        raise ImageRefusedError("no pixels", f"shape {planes.shape}")
    scaled = np.empty(planes.shape, np.float32)
    for at, plane in enumerate(planes):
        _check(plane, at)
        if mode.scaling == "raw":
            scaled[at] = plane
        else:
            low, high = _span(plane, at) if mode.scaling == "norm" else _range(plane, at)
            _stretch(plane, low, high, out=scaled[at])
    if mode.combine == "merge" and len(scaled) > 1:
        scaled = scaled.mean(axis=0, keepdims=True)
    return _resize(scaled, mode.size) if mode.size else scaled


def _check(plane: npt.NDArray[Any], at: int) -> None:
    if plane.dtype.kind not in "buif":
        raise ImageRefusedError("unsupported depth", f"channel {at}: {plane.dtype}")
    # The minimum of a plane that holds NaN is NaN, and NaN compares as False.
    if plane.dtype.kind == "f" and not -_LARGEST < plane.min() <= plane.max() < _LARGEST:
        raise ImageRefusedError("not finite", f"channel {at} holds NaN or values beyond {_LARGEST}")


def _span(plane: npt.NDArray[Any], at: int) -> tuple[float, float]:
    """Return the percentiles that become 0 and 255."""
    low, high = percentiles(plane.view(np.uint8) if plane.dtype == bool else plane)
    if high <= low:
        raise ImageRefusedError(
            "constant", f"channel {at}: percentiles 0.1 and 99.9 both are {low:g}"
        )
    return low, high


def _range(plane: npt.NDArray[Any], at: int) -> tuple[float, float]:
    """Return the values that become 0 and 255 by the plane's type."""
    if plane.dtype.kind in "ui":
        return 0.0, float(np.iinfo(plane.dtype).max)
    if plane.dtype.kind == "f" and not 0 <= plane.min() <= plane.max() <= 1:
        raise ImageRefusedError("out of range", f"channel {at} is float and not within 0..1")
    return 0.0, 1.0


def _stretch(
    plane: npt.NDArray[Any], low: float, high: float, *, out: npt.NDArray[np.float32]
) -> None:
    """Map low..high to 0..255 and clip. Short integers are exact in float32, others in float64."""
    exact = np.float32 if plane.dtype.itemsize <= 2 else np.float64
    values: npt.NDArray[Any] = plane.astype(exact)
    np.subtract(values, low, out=values)
    np.multiply(values, FULL / (high - low), out=values)
    np.clip(values, 0, FULL, out=values)
    out[...] = values


def _resize(scaled: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Squash each channel to a square, bilinear with antialiasing (Pillow, in float32)."""
    resized = [
        np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BILINEAR))
        for channel in scaled
    ]
    return np.stack(resized)
