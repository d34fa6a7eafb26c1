"""Run folders, progress output, graceful stopping, search history."""
