"""Simulated experiments behind `habenula evidence`: what the model gives for each published figure."""
