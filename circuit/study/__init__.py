"""The application on top of the model: trials, scoreboard, figures, tables and the command line."""
