"""The code specific to Lambda's runtime: start, Runtime API, end of the sandbox."""
