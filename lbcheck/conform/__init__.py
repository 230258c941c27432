"""Conformance: every dialect against a float64 reference and its library."""
