"""Groups of inputs of which a few share what is odd: the automatic scan of groups beside others, on the same networks.

What makes the activations is not here, so that a change here leaves those that are kept as they are.
"""
