"""Ground floor: configuration, artifacts, errors, console, devices, randomness. It imports no room."""
