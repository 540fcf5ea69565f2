"""Scoring encoders: features of images, exact nearest neighbors, statistics, benchmark tasks."""
