"""Studies: arms searched with equal budgets, in a ledger many workers share.

space      what is searched, and its points
arm        an optimizer with its fallback, schedule and space
workload   a model and its data
protocol   which runs a study consists of, from its settings and its records
ledger     which of them are done, running or waiting, in Optuna's storage
worker     takes a run from the ledger, trains, puts its record back
storage    Optuna's storage, with claims that are atomic in SQLite too
trials     a task and its record as a trial of Optuna's
records    the study's folder: study.json, ledger.db, trials.jsonl
session    all of these together, from settings to report
processes  several workers on one machine, and how they are stopped
"""
