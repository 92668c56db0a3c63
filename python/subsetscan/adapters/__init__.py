"""Drop-ins for other libraries' detectors."""
