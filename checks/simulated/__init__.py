"""What lessons and checks pretend: a GPU with a clock, its cache, planted bugs, synthetic data."""
