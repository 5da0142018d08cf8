"""What a node says."""
