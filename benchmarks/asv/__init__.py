"""Benchmarks for asv of the time, memory and passes of typical fits: asv run, asv publish"""
