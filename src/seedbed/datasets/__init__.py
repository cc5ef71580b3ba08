"""Floor 2: token shards on disk and exactly resumable batches."""
