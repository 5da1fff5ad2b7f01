"""Derivatives of the time loop: reverse mode, forward mode and linear maps."""
