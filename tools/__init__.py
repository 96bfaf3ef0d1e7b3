"""What the project's own tests and commands need; not part of the package."""
