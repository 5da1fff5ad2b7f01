"""Tables, figures and JSON."""
