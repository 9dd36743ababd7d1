"""Processes that are the ranks of a process group: started once, kept, and gone when their parent is."""
