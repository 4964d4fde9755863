"""Landing files in the graph: external assets, because they are put there by others."""

from __future__ import annotations

from dagster import AssetSpec, MetadataValue

from orchestration import code, keys
from topology import FileSource


def spec(source: FileSource, declared: code.Place) -> AssetSpec:
    """The asset of one `FileSource`."""
    return AssetSpec(
        keys.source_key(source.name),
        description=source.description or f"Landing files {source.path}.",
        group_name=keys.FILES,
        kinds={source.format},
        owners=list(source.owners or source.topic.owners),
        metadata={
            "landing files": MetadataValue.text(source.path),
            "format": MetadataValue.text(source.format),
            **code.references(declared),
        },
    )
