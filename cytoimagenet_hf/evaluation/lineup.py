"""Which encoders are scored: those asked for, or those of the design that can be had here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cytoimagenet_hf.errors import EncoderError
from cytoimagenet_hf.evaluation.comparing import COLUMNS
from cytoimagenet_hf.models.encoders import Encoder, load_encoder, parse_fusion

SEEDS = 5  # of random weights; the paper had one (protocols.md 6.11)

_Key = tuple[str, int | None]  # as asked for; seed where weights are random


@dataclass(frozen=True, slots=True)
class Entry:
    """What one score is of: a column of the table and, where weights are random, a seed."""

    column: str
    parts: tuple[_Key, ...]  # several are a fusion
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Lineup:
    """Loaded encoders, in the order in which they are scored: seeds last, one after another."""

    entries: tuple[Entry, ...]
    encoders: Mapping[_Key, Encoder] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)  # column -> why


def assemble(
    asked: Sequence[str],
    *,
    seeds: int = SEEDS,
    device: str = "cpu",
    say: Callable[[str], None] | None = None,
) -> Lineup:
    """Load all encoders before anything is scored, so that a wrong name is told at once.

    Args:
        asked: names as `load_encoder` takes them, a+b for fusions; empty: those of the design, of
            which the ones that can't be had are left out with the reason.
        seeds: of each encoder with random weights, from 0.
        device: of torch.
        say: see `load_encoder`.

    Raises:
        EncoderError, ImportError: one that was asked for can't be had here.
        ValueError: no such name, two that would share a column, or no seed.
    """
    if seeds < 1:
        raise ValueError(f"Random weights need at least one seed, not {seeds}.")
    loaded: dict[_Key, Encoder] = {}
    entries: list[Entry] = []
    left_out: dict[str, str] = {}
    for spec in asked or COLUMNS:
        names = parse_fusion(spec)
        if lacking := [name for name in names if name in left_out]:
            left_out[spec] = f"it needs {lacking[0]}."
            continue
        for seed in range(seeds) if any(map(_is_random, names)) else (None,):
            keys = tuple((name, seed if _is_random(name) else None) for name in names)
            try:
                for name, own in keys:
                    if (name, own) not in loaded:
                        loaded[name, own] = load_encoder(
                            name, seed=own or 0, device=device, say=say
                        )
            except (EncoderError, ImportError) as error:
                if asked:
                    raise
                left_out[spec] = str(error)
                break
            entries.append(Entry("+".join(loaded[key].name for key in keys), keys, seed))
    _check_columns(entries)
    entries.sort(key=lambda entry: -1 if entry.seed is None else entry.seed)  # stable
    return Lineup(tuple(entries), loaded, left_out)


def _is_random(name: str) -> bool:
    return name.partition(":")[0] == "random"


def _check_columns(entries: Sequence[Entry]) -> None:
    """Refuse two encoders of one name, which a table couldn't tell apart."""
    seen: dict[tuple[str, int | None], Entry] = {}
    for entry in entries:
        other = seen.setdefault((entry.column, entry.seed), entry)
        if other is not entry:
            raise ValueError(
                f"{other.parts[0][0]!r} and {entry.parts[0][0]!r} would both stand in the column "
                f"{entry.column!r}. Name each encoder once; of folders the last two parts of the "
                f"path count."
            )
