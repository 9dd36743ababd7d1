"""The course's files: notebooks, progress, reset, and what this machine can run."""
