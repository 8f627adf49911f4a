"""Frame encoders, behind one protocol."""
