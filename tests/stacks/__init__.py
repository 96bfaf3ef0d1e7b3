"""Real clients on real servers."""
