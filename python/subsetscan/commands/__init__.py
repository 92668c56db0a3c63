"""The command line: a file for each command. Nothing else of the package imports this."""
