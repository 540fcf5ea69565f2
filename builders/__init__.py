"""Thin scripts over the library; in the checkout only, never installed."""
