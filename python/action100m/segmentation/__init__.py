"""Stage 1: frames to embeddings to a tree of segments."""
