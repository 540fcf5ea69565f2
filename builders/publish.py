"""`python -m builders.publish …` is `cytoimagenet publish …`, from a checkout."""

import sys

from cytoimagenet_hf.cli import main

if __name__ == "__main__":
    main(["publish", *sys.argv[1:]])
