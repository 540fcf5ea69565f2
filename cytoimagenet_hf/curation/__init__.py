"""From records to a published data set: catalog, labels, splits, rendering, assembly, report."""
