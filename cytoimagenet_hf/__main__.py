"""`python -m cytoimagenet_hf` is the command line."""

from cytoimagenet_hf.cli import main

main()
