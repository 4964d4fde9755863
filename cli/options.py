"""Values of options: shares such as `1%`, and the checks that need a clear line."""

from __future__ import annotations

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
