"""Build, sign and publish releases: keys, TUF metadata, the repository under `releases/`."""
