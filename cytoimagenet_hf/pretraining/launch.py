"""From flags to a run: errors of ours are one line, and the exit status tells of what kind."""

import sys
from collections.abc import Sequence

from cytoimagenet_hf.errors import CytoImageNetError


def main(argv: Sequence[str] | None = None) -> None:
    """Train as the flags say. Exit status: 0 done, 1 failure, 2 bad input."""
    from cytoimagenet_hf.pretraining.config import parse_config

    try:
        config = parse_config(sys.argv[1:] if argv is None else argv)
        from cytoimagenet_hf.pretraining.train import train

        train(config)
    except (CytoImageNetError, ValueError) as error:
        sys.stderr.write(f"train: {error}\n")
        raise SystemExit(1 if isinstance(error, CytoImageNetError) else 2) from None
