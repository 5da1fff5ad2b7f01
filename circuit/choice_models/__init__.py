"""Hierarchical fits of people's choices. Needs no circuit."""
