"""Host code on shapes: a wrapper is run on tensors without data, what it asks for is written down, and played back later."""
