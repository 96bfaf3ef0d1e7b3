"""Tests of the container image and of the scripts that start a function."""
