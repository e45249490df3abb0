"""The nursery: a process that has imported everything and forks a `tocsin run` whenever it is asked, in milliseconds.

A start of Python with all that is imported takes a second or two of CPU; a campaign of hundreds of kills needs them for
better things. What is forked is a process of its own like any other. Here: both ends. Not here: what the forked process
does (`child`).
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import IO

_READ = 64 * 1024


class Nursery:
    """Our end. `start` when the process before has ended; `close` ends everything."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tocsin.chaos.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                # OpenBLAS has threads, which forks do not take along; the variable of the crash points must be there
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TOCSIN_CRASH_AT": ""},
                start_new_session=True,
            )

    def start(self, config: Path, *, offset_s: float, crash_at: str, output: IO[bytes]) -> Forked:
        """A new process; its standard output goes to `output`."""
        orders, stdin = os.pipe()
        stderr, errors = os.pipe()
        request = json.dumps({"config": str(config), "offset": offset_s, "crash_at": crash_at}).encode()
        fds = array.array("i", [orders, output.fileno(), errors])
        self._socket.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds.tobytes())])
        os.close(orders)
        os.close(errors)
        answer = self._socket.recv(_READ)
        if not answer:
            raise ChildProcessError("the nursery has died")
        return Forked(self._socket, int(answer), os.fdopen(stdin, "wb"), os.fdopen(stderr, "rb"))

    def close(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


class Forked:
    """As much of a subprocess.Popen as is needed."""

    def __init__(self, nursery: socket.socket, pid: int, stdin: IO[bytes], stderr: IO[bytes]) -> None:
        self.pid, self.stdin, self.stderr = pid, stdin, stderr
        self._nursery = nursery
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        if self._code is None and select.select([self._nursery], [], [], 0)[0]:
            said = self._nursery.recv(_READ)
            self._code = int(said) if said else -signal.SIGKILL
        return self._code

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def serve(requests: socket.socket) -> None:
    """Their end: one process after the other, until nobody asks any more."""
    from telemetry import crash_points  # noqa: PLC0415  # only here, where everything is imported in advance
    from tocsin.chaos import child  # noqa: PLC0415  # as above

    while True:
        data, ancillary, _, _ = requests.recvmsg(_READ, socket.CMSG_SPACE(3 * 4))
        if not data:
            return
        fds = array.array("i")
        for _, _, part in ancillary:
            fds.frombytes(part)
        pid = os.fork()
        if pid == 0:
            for number, fd in enumerate(fds):
                os.dup2(fd, number)
                os.close(fd)
            requests.close()
            asked = json.loads(data)
            crash_points.arm(asked["crash_at"])
            os.chdir(Path(asked["config"]).parent)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115  # of the process, for as long as it lives
            code = 1
            try:
                code = child.main(asked["config"], str(asked["offset"]))
            except BaseException:  # noqa: BLE001  # as an interpreter does at its end
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        for fd in fds:
            os.close(fd)
        requests.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        requests.send(str(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
