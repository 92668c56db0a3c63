"""The science around the scan: datasets, networks, attacks, experiments, figures.

Nothing in the rest of the package imports this folder, and importing it takes no TensorFlow along:
what needs Keras or the attack library imports it when it is called.
"""
