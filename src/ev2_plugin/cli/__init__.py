"""The `ev2` command: one thin file per sub-command, which parses, calls one library function and prints."""
