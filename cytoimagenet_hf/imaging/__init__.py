"""Pixels: files to planes, planes to stretched gray crops; knows no tables, no names."""
