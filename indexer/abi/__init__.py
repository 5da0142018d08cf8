"""What a log means: ABI to event to columns and a compiled decoder."""
