"""One timeout, from the first due instant to the handler's end."""
