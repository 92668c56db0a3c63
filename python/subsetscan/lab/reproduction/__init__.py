"""The figures of the paper, drawn anew."""
