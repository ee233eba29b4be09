"""Train the first champion of the demo from a committed recipe, and find it again as a package file."""
