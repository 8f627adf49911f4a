"""The dataset: written as Parquet shards, and validated against the published format."""
