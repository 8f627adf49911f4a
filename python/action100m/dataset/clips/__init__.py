"""Cut segments into video files."""
