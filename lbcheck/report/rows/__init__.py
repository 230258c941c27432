"""The numbers of the report as rows, from which tables and figures are made.

search  trials, best so far, targets, rates by weight decay
runs    the confirmation runs: seeds, schedules, curves, layers
budget  what the study spent: budget, search spaces, failures
"""
