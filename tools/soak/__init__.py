"""The races at the end of an invocation, in numbers: by themselves, and in bad weather."""
