"""Tasks, learning and choice: pure functions of one subject, without the circuit."""
