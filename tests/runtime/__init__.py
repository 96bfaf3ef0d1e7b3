"""Tests of the package under AWS's own runtime, in AWS's Runtime Interface Emulator."""
