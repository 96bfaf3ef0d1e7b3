"""What becomes of real clients on real servers when a handler's time is up."""
