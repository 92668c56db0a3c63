"""The slides' detector, by feature responses: their tables with ours beside them, other detectors, and controls."""
