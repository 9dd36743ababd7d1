"""From verdicts to pages and files for others."""
