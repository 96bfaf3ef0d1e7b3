"""What watching costs, part by part, compared with other ways to end a handler in time."""
