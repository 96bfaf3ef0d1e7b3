"""What watching costs, part by part, beside other ways to end a handler in time."""
