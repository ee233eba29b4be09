"""Run the cloud side: ingest, catalog, labels, snapshots, retraining, releases, rollouts, command line."""
