"""Reading videos: one pass, in order, every `stride`-th frame."""
