"""`recover`: hidden parameters from observations, with uncertainty and identifiability."""
