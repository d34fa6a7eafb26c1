"""Reading and writing files and names."""
