"""Stage 1: from frames to embeddings to a tree of segments."""
