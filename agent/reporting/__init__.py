"""What is said of a run: numbers, pages, figures."""
