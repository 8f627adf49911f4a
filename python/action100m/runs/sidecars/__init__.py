"""What stands beside a video: its metadata and its subtitles, all untrusted."""
