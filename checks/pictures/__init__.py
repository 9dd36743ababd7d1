"""What lessons draw, one module a noun."""
