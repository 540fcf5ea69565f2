"""Subcommands of the command line that stand in modules of their own; cli.py gathers them."""
