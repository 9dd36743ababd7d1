"""The processes in which a student's code runs, and how they are talked to."""
