"""The search for a plan: an algorithm proposes within a budget, workers judge, a journal remembers."""
