"""What watching costs, measured side by side with other ways to end a handler in time."""
