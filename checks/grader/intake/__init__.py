"""From a folder of submissions to the code of each exercise."""
