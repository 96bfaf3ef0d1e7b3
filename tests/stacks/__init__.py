"""Tests of real clients with real servers."""
