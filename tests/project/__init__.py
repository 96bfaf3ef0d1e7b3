"""Tests of what surrounds the package: documentation, site, release, tools and benchmarks."""
