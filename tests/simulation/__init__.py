"""Tests of the simulated microscopy."""
