"""From code to verdicts."""
