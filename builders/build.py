"""`python -m builders.build …` is `cytoimagenet build …`, from a checkout."""

import sys

from cytoimagenet_hf.cli import main

if __name__ == "__main__":
    main(["build", *sys.argv[1:]])
