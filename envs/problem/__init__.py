"""What an agent can know of a network before anything is removed."""
