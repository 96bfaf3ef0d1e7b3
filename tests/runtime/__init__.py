"""The package in AWS's own emulator, under AWS's own runtime."""
