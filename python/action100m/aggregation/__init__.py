"""Stage 3: structured actions from captions, refined."""
