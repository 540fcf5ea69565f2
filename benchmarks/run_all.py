"""`python benchmarks/run_all.py …` is `cytoimagenet score …`, from a checkout.

`accelerate launch benchmarks/run_all.py …` embeds in several processes; the first one scores.
"""

import sys

from cytoimagenet_hf.cli import main

if __name__ == "__main__":
    main(["score", *sys.argv[1:]])
