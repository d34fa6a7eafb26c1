"""Reports of runs: numbers, pages, figures."""
