"""Tests with other vendors' real wrappers, inside of ours and around it."""
