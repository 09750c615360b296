"""Start a command that outlives everything: run as a script by `launch`, importing nothing but the basics.

    python -I -S spawn.py LOG CWD PROGRAM ARG...

Forks the program into a session of its own (no terminal, no parent: init adopts it, so the app that launched
it never has it as a zombie), with nothing to read and all it prints appended to LOG, and prints its pid.
"""

import os
import sys


def main(log: str, cwd: str, program: list[str]) -> int:
    """Start `program`; 0 and the pid on stdout, or 1 and the system's reason on stderr."""
    reading, writing = os.pipe()  # closed by a successful exec, else it carries the reason
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir(cwd)
            null = os.open(os.devnull, os.O_RDONLY)
            out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(null, 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.closerange(3, writing)
            os.closerange(writing + 1, 4096)
            os.execv(program[0], program)
        except OSError as error:
            os.write(writing, str(error.strerror or error).encode())
        finally:
            os._exit(127)
    os.close(writing)
    problem = os.read(reading, 4096)
    if problem:
        os.waitpid(pid, 0)
        sys.stderr.write(problem.decode())
        return 1
    sys.stdout.write(f"{pid}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
