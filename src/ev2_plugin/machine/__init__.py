"""What the operating system tells of this machine; the standard library only, which works where all else is broken."""
