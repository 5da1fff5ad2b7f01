"""Tables that ship with the package, and how tables are read."""
