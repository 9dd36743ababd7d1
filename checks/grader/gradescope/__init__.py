"""Gradescope's autograder: the zip that an instructor uploads, and what runs in it for each submission."""
