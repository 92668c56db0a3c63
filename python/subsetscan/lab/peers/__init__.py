"""The package's detectors beside those that people would take instead, on the activations of `defaults`."""
