"""From flags to a run: errors of ours are one line, and the exit status tells of what kind."""

import importlib.util
import sys
from collections.abc import Sequence

from cytoimagenet_hf.errors import CytoImageNetError

_NEEDED = ("torch", "torchvision", "timm", "transformers", "accelerate")  # of the extra `train`


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the flags say. Exit status: 0 done, 1 failure, 2 bad input, 130 stopped."""
    from cytoimagenet_hf.pretraining.config import parse_config

    try:
        config = parse_config(sys.argv[1:] if argv is None else argv)
        if lacking := what_is_lacking():
            raise CytoImageNetError(lacking)
        from cytoimagenet_hf.pretraining.train import train

        train(config)
    except (CytoImageNetError, ValueError, OSError) as error:
        sys.stderr.write(f"train: {error}\n")
        raise SystemExit(2 if isinstance(error, ValueError) else 1) from None
    except KeyboardInterrupt:
        sys.stderr.write("train: stopped; the same command goes on from the last checkpoint\n")
        raise SystemExit(130) from None


def what_is_lacking() -> str:
    """Say which libraries of the extra `train` aren't installed, and how they are; "": all are."""
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if not absent:
        return ""
    return (
        f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed. Training needs "
        f'the extra `train`: pip install "cytoimagenet-hf[train]", or in a checkout '
        f'pip install ".[train]".'
    )
