"""Tell how runs went: gathered from bucket and database, shown, compared, drawn, and mirrored into MLflow."""
