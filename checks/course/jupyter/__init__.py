"""What JupyterLab is told in `.venv`: how lessons are saved, and how wide text is shown."""
