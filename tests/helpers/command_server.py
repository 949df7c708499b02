"""`ev2` for many commands in a row: each runs in a process of its own, forked from one that has imported everything.

Importing torch, torch_geometric and fairchem takes seconds, which a hundred commands would pay a hundred times. The
client hands over its arguments, folder, environment and streams, and ends as the command ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CLIENT = """\
#!{python} -S
import array, json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(request)
    sys.exit(int.from_bytes(server.recv(1), "big"))
"""


@contextmanager
def ev2_command(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Make a program `ev2` in a folder, which works until the context is left."""
    address = str(folder / "socket")
    (folder / "ev2").write_text(CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
    (folder / "ev2").chmod(0o755)
    with subprocess.Popen([sys.executable, "-W", "ignore", __file__, address], env=environment) as server:
        while not Path(address).exists():
            if server.poll() is not None:
                raise ChildProcessError(f"the server of commands ended with status {server.returncode}")
            time.sleep(0.05)
        try:
            yield
        finally:
            server.terminate()


def serve(address: str) -> None:
    """Import, then run a command for every client."""
    import ev2_plugin.integration.launcher
    import ev2_plugin.integration.relax_files
    import ev2_plugin.integration.trainer  # noqa: F401

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address + ".new")
    listening.listen()
    os.rename(address + ".new", address)
    while True:
        client, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            _answer(client)
        client.close()
        with suppress(ChildProcessError):  # none is left
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass


def _answer(client: socket.socket) -> None:
    """Wait for the command and say how it ended."""
    head, streams, _, _ = socket.recv_fds(client, 8, 3)
    request = b""
    while len(request) < int.from_bytes(head, "big"):
        request += client.recv(1 << 16)
    child = os.fork()
    if child == 0:
        client.close()
        _run(*json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    client.sendall(bytes([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255]))
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["ev2", *arguments]
    status: object = 0
    try:
        from ev2_plugin.cli.main import app

        app(prog_name="ev2")
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


if __name__ == "__main__":
    serve(sys.argv[1])
