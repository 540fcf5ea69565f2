"""CytoImageNet: raw open microscopy images into a weakly labelled data set, and back out of it."""

__version__ = "0.1.0"
