"""`python -m stack up|down|state|doctor`: the services without the rest of the command line."""

from __future__ import annotations

import sys

import stack
from headrace.errors import HeadraceError


def main() -> int:
    """Run one command; errors are one message."""
    command = sys.argv[1] if len(sys.argv) == 2 else ""
    try:
        with stack.console() as progress:
            if command == "up":
                stack.up(progress=progress)
            elif command == "down":
                stack.down(progress=progress)
        if command == "state":
            for service in stack.state():
                print(service)
        elif command == "doctor":
            for finding in stack.doctor():
                print(
                    "ok  " if finding.ok else "BAD ",
                    finding.name,
                    finding.message,
                    "" if finding.ok else finding.remedy,
                )
        elif command not in ("up", "down"):
            print("usage: python -m stack up|down|state|doctor", file=sys.stderr)
            return 2
    except HeadraceError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `python -m stack down` stops what is running", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
