"""Figures, tables and a page made of the results of runs alone, and maps made of the models that runs have kept."""
