"""What several tests use: data made by hand, independent implementations, and processes."""
