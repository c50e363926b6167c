"""The search for a plan: an algorithm proposes, workers judge, and a journal remembers."""
