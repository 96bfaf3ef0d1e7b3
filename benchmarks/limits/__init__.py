"""Which blocking calls a timeout can interrupt, how fast, and by what means."""
