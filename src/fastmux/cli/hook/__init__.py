"""The folder that ``run`` adds to PYTHONPATH."""
