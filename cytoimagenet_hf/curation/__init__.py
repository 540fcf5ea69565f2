"""Curation: catalog, label plan, rendering, assembly; each stage a function from files to files."""
