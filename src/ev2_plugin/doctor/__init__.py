"""What `ev2 doctor` looks at: the standard library only here, everything else is imported in processes of its own."""
