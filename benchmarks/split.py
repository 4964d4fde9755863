"""Where a worker's time goes, read from the profile of one run."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Part:
    """A phase: CPU seconds, wall seconds (of its thread; not known for librdkafka), share of the process's CPU."""

    phase: str
    cpu_s: float
    wall_s: float | None
    share: float


@dataclass(frozen=True)
class Split:
    """CPU seconds of a worker by phase, start included, the largest first."""

    cpu_s: float
    parts: tuple[Part, ...]

    @classmethod
    def read(cls, file: Path) -> Split:
        """The split that `benchmarks.profiled` wrote."""
        found: dict[str, Any] = json.loads(file.read_text())
        cpu: dict[str, float] = defaultdict(float)
        wall: dict[str, float] = defaultdict(float)
        for entry in found["phases"]:
            cpu[entry["phase"]] += entry["cpu_s"]
            wall[entry["phase"]] += entry["wall_s"]
        total = float(found["cpu_s"])
        cpu["start: imports"] = float(found["import_cpu_s"])
        fetch = sum(used for name, used in found["threads"].items() if name.startswith("rdk:"))
        if fetch:
            cpu["librdkafka threads"] = fetch
        cpu["everything else"] = max(0.0, total - sum(cpu.values()))
        parts = [Part(phase, used, wall.get(phase), used / total) for phase, used in cpu.items()]
        return cls(total, tuple(sorted(parts, key=lambda part: -part.cpu_s)))

    def document(self) -> dict[str, Any]:
        """Form in the report."""
        parts = {
            part.phase: {
                "cpu_s": round(part.cpu_s, 2),
                "wall_s": None if part.wall_s is None else round(part.wall_s, 2),
                "share": round(part.share, 3),
            }
            for part in self.parts
        }
        return {"cpu_s": round(self.cpu_s, 2), "parts": parts}
