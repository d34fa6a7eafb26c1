"""What changes weights after the cut, and the state of trainings."""
