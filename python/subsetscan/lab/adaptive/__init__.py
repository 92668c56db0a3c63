"""Attackers of images who know the classifier, the detector, its options and its background."""
