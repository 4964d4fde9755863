"""`headrace status`: services, switches, workers, lag, throughput, last errors."""

from __future__ import annotations

import click

from cli.output import json_option, show_json, show_table


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show services, switches, workers, lag, throughput, errors.

    \b
    Examples:
      headrace status
      headrace status --json
    """
    from dataclasses import asdict

    import stack
    from cli.fleet import describe
    from cli.ledger_access import reading
    from headrace.settings import settings
    from ledger import closings, reports

    services = stack.state()
    engine = reading(settings())
    finals, outboxes = reports.finals(engine), reports.outboxes(engine)
    workers, lag, errors = reports.workers(engine), reports.lag(engine), reports.shard_errors(engine)
    pipelines, restarts, fleet = reports.pipelines(engine), reports.restarts(engine), reports.fleet(engine)
    if as_json:
        show_json(
            {
                "services": services,
                "fleet": fleet,
                "pipelines": pipelines,
                "restarts": restarts,
                "workers": workers,
                "lag": lag,
                "shard_errors": errors,
                "finals": [{**asdict(one), "waits_for": one.waits_for} for one in finals],
                "outboxes": outboxes,
                "accounting": reports.accounting(engine),
            }
        )
        return
    show_table(
        "services",
        ["name", "state", "where", "pid", "up for s", "MB"],
        [
            (s.name, "up" if s.running else "down", s.address or s.source, s.pid, s.uptime, s.rss // 2**20)
            for s in services
        ],
    )
    click.echo(f"fleet: {describe(fleet)}")
    show_table(
        "pipelines",
        ["pipeline", "toggle", "override", "override until", "since"],
        [(p.pipeline, p.desired, p.override, p.override_until, p.changed_at) for p in pipelines],
    )
    show_table(
        "restarts",
        ["pipeline", "slot", "failures in a row", "next start", "last error"],
        [(r.pipeline, r.slot, r.failures, r.next_start, r.last_error) for r in restarts],
    )
    show_table(
        "workers",
        ["worker", "pipeline", "state", "shards", "records", "records/s", "heartbeat", "last error"],
        [
            (w.worker, w.pipeline, w.state, list(w.shards), w.records, w.records_per_s, w.heartbeat_at, w.last_error)
            for w in workers
        ],
    )
    show_table(
        "lag",
        ["pipeline", "topic", "partition", "next offset", "end", "records", "seconds", "end seen"],
        [(x.pipeline, x.topic, x.partition, x.next_offset, x.end_offset, x.records, x.seconds, x.seen_at) for x in lag],
    )
    if finals:
        show_table(
            "final rows",
            ["pipeline", "table", "final up to", "emitted", "unpublished", "waits", "error"],
            [
                (
                    f.pipeline,
                    f.table,
                    "full windows" if f.by_offset else closings.shown(f.closed_through),
                    f.outbox_seq,
                    f.unpublished,
                    f.waits_for,
                    f.error,
                )
                for f in finals
            ],
        )
    if outboxes:
        show_table(
            "sent by shards",
            ["pipeline", "what", "shards", "records", "unpublished"],
            [(o.pipeline, o.sends, o.shards, o.numbered, o.unpublished) for o in outboxes],
        )
    show_table(
        "shards that stand still", ["pipeline", "shard", "why"], [(e.pipeline, e.shard, e.error) for e in errors]
    )


COMMANDS: tuple[click.Command, ...] = (status,)
