"""Runs another program that ends when we do: `python -m tocsin.chaos.leash COMMAND …`, with a pipe as standard input.

SIGTERM is handed on. When the pipe closes, which no crash of the parent can prevent, the program is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())

    def end_with_parent() -> None:
        os.read(0, 1)
        process.kill()

    threading.Thread(target=end_with_parent, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
