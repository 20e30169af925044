"""Time and memory of typical fits, for asv to follow over the history: asv run, asv publish"""
