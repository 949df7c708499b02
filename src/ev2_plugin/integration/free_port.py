"""A port for the ranks of a job to meet at, printed: `python -m ev2_plugin.integration.free_port JOB`.

Imports nothing of torch: a job's batch script waits for it.
"""

import socket
import sys

FIRST, COUNT = 10000, 20000
"""Ports that Linux does not give to outgoing connections by itself, and few services use."""


def free_port(number: int) -> int:
    """Return the first free port, looked for from a place that belongs to a number.

    Args:
        number: Different ones start at different ports, up to 20,000 of them.

    Raises:
        OSError: If all are taken.
    """
    for offset in range(COUNT):
        port = FIRST + (number + offset) % COUNT
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
            try:
                one.bind(("", port))
            except OSError:
                continue
        return port
    raise OSError(f"no port from {FIRST} to {FIRST + COUNT - 1} is free on {socket.gethostname()}")


if __name__ == "__main__":
    print(free_port(int(sys.argv[1])))
