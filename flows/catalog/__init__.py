"""Keep the catalog: the database's view of the samples in the bucket."""
