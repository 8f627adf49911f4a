"""Segments as video files of their own."""
