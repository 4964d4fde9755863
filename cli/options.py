"""Values of options: shares such as `1%`, durations such as `2h`, and the checks that need a clear line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click


class Share(click.ParamType[float]):
    """A share: `1%`, `0.5 %` or `0.01`; a float between 0 and 1."""

    name = "share"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share as a number."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            self.fail(f'"{value}" is not a share; write 1% or 0.01', param, ctx)
        if not 0 <= share <= 1:
            self.fail(f'"{value}" is not between 0% and 100%', param, ctx)
        return share


SHARE = Share()


class Duration(click.ParamType[float]):
    """A duration: `90s`, `2h` or `15 minutes`; seconds, more than none and at most 30 days."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration in seconds."""
        from headrace.errors import DeclarationError
        from topology.duration import micros

        try:
            seconds = micros(str(value)) / 1_000_000
        except DeclarationError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= 30 * 86_400:
            self.fail(f'"{value}" is not between 1 s and 30 days', param, ctx)
        return seconds


DURATION = Duration()


class Moment(click.ParamType[datetime]):
    """A moment: `2026-03-01`, `2026-03-01T10:00`, with or without a zone (UTC), or so long ago, such as `2h`."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The moment in UTC."""
        from headrace.errors import DeclarationError
        from topology.duration import micros

        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(str(value).strip())
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        try:
            return datetime.now(UTC) - timedelta(microseconds=micros(str(value)))
        except (DeclarationError, OverflowError):
            self.fail(f'"{value}" is no moment; write 2026-03-01T10:00 (UTC), or 2h for two hours ago', param, ctx)


MOMENT = Moment()
