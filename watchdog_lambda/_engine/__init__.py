"""One timeout, from the first thing that is due to the handler's end."""
