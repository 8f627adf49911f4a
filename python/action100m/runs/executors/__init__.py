"""Where a stage runs. On this machine for now; each executor takes the same stages."""
