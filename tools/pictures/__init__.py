"""The documentation's pictures, drawn by code from what has been run."""
