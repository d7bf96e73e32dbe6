"""Starts for a model of another size, trained side by side until they reach the quality of one from scratch."""
