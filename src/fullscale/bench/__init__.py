"""What things cost: seconds, operations and memory, compared within one run."""
