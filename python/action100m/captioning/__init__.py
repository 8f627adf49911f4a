"""Stage 2: captions for every segment."""
