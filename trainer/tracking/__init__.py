"""Track runs in MLflow or W&B beside their record; neither may ever fail a run or hold it up."""
