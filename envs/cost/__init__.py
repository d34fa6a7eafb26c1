"""What a cut costs: operations, parameters, milliseconds."""
