"""Topics of alerts: one record for each record of a topic that deserves somebody's attention."""

from __future__ import annotations

from dataclasses import dataclass, field

from topology.derived import Derived

ALERT_ID = "alertId"


@dataclass(frozen=True, kw_only=True)
class Alert(Derived):
    """A topic with one alert for each valid record of the source for which `when` is TRUE.

    source: a topic, a table that emits final rows, or a `Latest`: then `when` and `columns` see each newer row, and of
    the one before it `previous_COLUMN`.

    Everything else is as for `Derived`. The first field is `alertId`, the text `ALERT:TOPIC:PARTITION:OFFSET` of the
    record: whoever makes the alerts anew, under whatever cuts, gives the same record the same id, so that a receiver
    outside of Kafka's transactions recognizes one that it has seen. key: by default the column that copies the source's
    key.
    """

    when: str
    key: str = ""
    where: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "where", self.when)
        if not self.key:
            object.__setattr__(self, "key", self._copied_key())

    @property
    def on_transitions(self) -> bool:
        """Its source may be a `Latest`: then an alert is a row that has become what `when` says."""
        return True

    @property
    def identity(self) -> str:
        """The field with the id."""
        return ALERT_ID
