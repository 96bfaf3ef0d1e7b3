"""The container image and the scripts that start a function."""
