"""Mirror the packages: one folder of tests a room."""
