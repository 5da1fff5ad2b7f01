"""What XLA's CPU compiler needs to run the time loop at full speed."""
