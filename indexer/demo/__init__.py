"""A chain of its own with contracts and traffic, to try Gapless on."""
