"""The one grid of experiments: pairs of a space and a detector, scored on sets of images, and measured."""
