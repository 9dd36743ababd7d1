"""What decides whether one function is right, and says what is wrong with it."""
