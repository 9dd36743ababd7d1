"""Commands for those who maintain the workshop: `python3 workshop.py dev`."""
