"""Tell how a demo went: a table, a folder with pictures and a page, and `summary.json` for machines."""
