"""Run folders, progress output and graceful stop."""
