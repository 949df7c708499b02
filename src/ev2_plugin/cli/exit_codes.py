"""What the exit status of an `ev2` command says."""

DONE = 0
ERROR = 1
"""Something is wrong with the input or the environment; one sentence on the standard error says what."""
USAGE = 2
"""The command line itself is wrong: an unknown option, a missing argument. The parser's own status."""
NO = 3
"""All was done, and the answer is no: not converged, faults found, a test not passed."""
STOPPED = 130
"""Stopped by Ctrl-C."""
