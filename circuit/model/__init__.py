"""The equations: neurons, dopamine, plasticity and drugs, as pure functions of one subject."""
