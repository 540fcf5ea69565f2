"""All that changes a build besides its input: one frozen record, and two presets."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cytoimagenet_hf.imaging import windows
from cytoimagenet_hf.imaging.intensity import PERCENTILES
from cytoimagenet_hf.schema import Limits

PRESETS = ("standard", "paper")
_OF_PAPER = (  # what the authors chose a value for (curation.md 2 to 7); a contrast of 0: unjudged
    "min_fields", "max_fields", "presample", "allocation", "crops_by_fields", "percents",
    "min_crop_side", "min_contrast", "min_crops", "max_crops", "validation_share",
)  # fmt: skip
_MOST_CROPS = len(windows.QUADRANTS)  # of a record
_LEAST = {
    **dict.fromkeys(("min_crops", "min_contrast"), 0),
    **dict.fromkeys(
        (
            "min_fields", "max_fields", "presample", "min_crop_side", "min_side", "max_pixels",
            "max_crops", "small_side", "tiny_side", "tiny_labels", "tiny_crops", "shard_bytes",
            "group_rows", "group_bytes", "chunk_fields",
        ),
        1,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Thresholds of every stage; defaults are ours ("standard"), see `preset` for the paper's."""

    seed: int = 0
    # Labels (paper 2.1)
    min_fields: int = 287  # fields that make a value a potential label
    max_fields: int = 1000  # fields taken for a label
    presample: int = 10_000  # candidates above this are thinned out first
    allocation: Literal["equal", "proportional"] = "equal"  # of places over strata
    # Crops (paper 2.2; curation.md 6)
    crops_by_fields: tuple[tuple[int, int], ...] = ((1000, 1), (550, 2), (400, 3), (0, 4))
    percents: tuple[float, float] = PERCENTILES
    min_crop_side: int = windows.MIN_CROP_SIDE
    min_side: int = windows.MIN_SIDE
    min_contrast: float = windows.MIN_CONTRAST
    max_pixels: int = Limits().pixels
    # Assembly
    min_crops: int = 0  # a label with fewer is left out
    max_crops: int = 1000  # surplus crops of a label are left out
    validation_share: float = 0.1  # of the groups of each label; paper 2.3
    small_side: int = 256  # pixels, longest side in config `small`
    tiny_side: int = 128  # the same in `tiny`
    tiny_labels: int = 100
    tiny_crops: int = 100  # a label, over both splits
    shard_bytes: int = 500_000_000
    group_rows: int = 100  # rows of a Parquet row group
    group_bytes: int = 100_000_000
    chunk_fields: int = 256  # fields rendered as one piece of work

    def __post_init__(self) -> None:
        """Refuse values that no build can be made with."""
        for name, least in _LEAST.items():
            if not getattr(self, name) >= least:  # so worded, NaN is refused too
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for small, large in (("min_fields", "max_fields"), ("max_fields", "presample")):
            if getattr(self, large) < getattr(self, small):
                raise ValueError(
                    f"{large} ({getattr(self, large)}) is under {small} ({getattr(self, small)}): "
                    f"no label could be filled"
                )
        if self.allocation not in ("equal", "proportional"):
            raise ValueError(f"allocation is equal or proportional, not {self.allocation!r}")
        if not 0 < self.validation_share < 1:
            raise ValueError(f"validation_share lies between 0 and 1, got {self.validation_share}")
        if not (_are_numbers(self.percents, 2) and 0 <= self.percents[0] < self.percents[1] <= 100):
            raise ValueError(f"percents must be two that rise within 0..100, got {self.percents}")
        if not _are_tiers(self.crops_by_fields):
            raise ValueError(
                f"crops_by_fields holds (least fields, 1 to {_MOST_CROPS} crops), falling to 0 "
                f"fields, got {self.crops_by_fields}"
            )

    def rules(self) -> windows.Rules:
        """What decides windows and refusals."""
        return windows.Rules(
            seed=self.seed,
            min_crop_side=self.min_crop_side,
            min_side=self.min_side,
            percents=self.percents,
            min_contrast=self.min_contrast,
        )

    def limits(self) -> Limits:
        """What a raw file may ask for."""
        return Limits.for_pixels(self.max_pixels)

    def crops_wanted(self, fields: int) -> int:
        """Crops wanted of each record of a label with so many fields."""
        return next(crops for least, crops in self.crops_by_fields if fields >= least)

    def as_dict(self) -> dict[str, object]:
        """All values by name, as build.json keeps them."""
        return dataclasses.asdict(self)


def preset(name: str, **changes: object) -> Parameters:
    """Return the parameters of a preset, with single values changed.

    `paper` leaves out labels with fewer than 500 crops (curation.md 7), spreads places over strata
    in proportion (curation.md 3), and judges no contrast.

    Raises:
        ValueError: there is no such preset or no such parameter.
    """
    paper = {"allocation": "proportional", "min_crops": 500, "min_contrast": 0.0}
    if name not in PRESETS:
        raise ValueError(f"Unknown preset {name!r}. There are {', '.join(PRESETS)}.")
    known = {one.name for one in dataclasses.fields(Parameters)}
    if unknown := sorted(set(changes) - known):
        raise ValueError(f"Unknown parameter {', '.join(unknown)}. There are {sorted(known)}.")
    return Parameters(**{**(paper if name == "paper" else {}), **changes})  # type: ignore[arg-type]


def of_paper() -> dict[str, object]:
    """Values of the preset `paper` by name, without parameters that are ours alone."""
    values = preset("paper").as_dict()
    return {name: values[name] for name in _OF_PAPER}


def parse(settings: Sequence[str], **flags: object) -> dict[str, object]:
    """Read `NAME=VALUE` settings, the value as JSON or a bare word.

    Args:
        settings: of any parameters.
        flags: parameters that are given by flags of their own; None: not given.

    Returns:
        All that are given.

    Raises:
        ValueError: no `=`, a value of another type than the parameter has, or one given twice.
    """
    kinds = _defaults()
    parsed = {name: value for name, value in flags.items() if value is not None}
    for setting in settings:
        name, sign, text = setting.partition("=")
        if not sign or name not in kinds:
            raise ValueError(f"--set takes NAME=VALUE with one of {', '.join(kinds)}: {setting!r}")
        if name in parsed:
            raise ValueError(f"{name} is given twice: {parsed[name]} and --set {setting}")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        parsed[name] = _typed(name, value, kinds[name])
    return parsed


def from_dict(values: object) -> Parameters:
    """Make the parameters that `as_dict` gave, from what JSON made of them.

    Raises:
        ValueError: a name or a type that no build has written.
    """
    kinds = _defaults()
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        raise ValueError(
            "The parameters are not those that this version of the package writes; use the "
            "version that build.json names."
        )
    typed = {name: _typed(name, value, kinds[name]) for name, value in values.items()}
    return Parameters(**typed)  # type: ignore[arg-type]


def _are_numbers(value: object, count: int) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == count
        and all(type(one) in (int, float) for one in value)
    )


def _are_tiers(tiers: object) -> bool:
    """Say whether every number of fields falls into one tier with a possible number of crops."""
    if not isinstance(tiers, tuple) or not all(_are_numbers(tier, 2) for tier in tiers):
        return False
    least = [tier[0] for tier in tiers]
    falls = least == sorted(set(least), reverse=True) and least[-1:] == [0]
    return falls and all(tier[1] in range(1, _MOST_CROPS + 1) for tier in tiers)


def _defaults() -> dict[str, object]:
    return {one.name: one.default for one in dataclasses.fields(Parameters)}


def _typed(name: str, value: object, default: object) -> object:
    """Bring a value from JSON to the type of the parameter, or refuse it."""
    value = _as_tuple(value)
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise ValueError(f"{name} is a {type(default).__name__}, like {default!r}: {value!r}")
    return value


def _as_tuple(value: object) -> object:
    return tuple(_as_tuple(one) for one in value) if isinstance(value, list) else value
