"""Files, progress, errors, JAX settings and the store."""
