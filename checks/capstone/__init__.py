"""Lesson 10's transformer: training, accuracy, the time of a block, the report card."""
