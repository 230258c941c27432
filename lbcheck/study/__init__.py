"""A study: arms searched with equal budgets, in a ledger many workers share.

settings        budgets, margin, target, seeds
protocol        which trials a study consists of, from settings and records
study_folder    study.json, ledger.db and trials.jsonl: their only writer
formats         the schema of these files
ledger          which trials are done, running or waiting
optuna_storage  Optuna's storage, with claims that are atomic in SQLite too
optuna_trials   a task and its record as a trial of Optuna
worker          takes a trial from the ledger, trains, puts its record back
threads         how many threads a worker computes with
study_command   `lbcheck study`
"""
