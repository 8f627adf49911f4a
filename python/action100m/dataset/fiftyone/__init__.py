"""The dataset as FiftyOne has it: written, read back, shown and shared, without its database."""
