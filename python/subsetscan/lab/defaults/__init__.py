"""The default detector on networks that others made: which networks, and what their layers hold for which inputs."""
