"""What watching costs, and what it reaches: measured side by side with other ways to do it."""
