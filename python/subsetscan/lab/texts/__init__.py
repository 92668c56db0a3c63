"""Texts before a sentence encoder: what is unlike plain English, and which words it is."""
