"""The grader: a folder of submissions in, scores and feedback out. The parent trusts nothing that a student wrote."""
