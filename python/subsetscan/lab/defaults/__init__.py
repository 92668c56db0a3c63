"""The default detector beside others, on every layer of networks that others made."""
