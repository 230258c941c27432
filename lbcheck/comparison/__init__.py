"""From settings to an answer: `lbcheck.compare` and its command.

compare          the function, and what it returns
session          a study in this process: ledger, workers, records, report
compare_command  `lbcheck compare`
lineage          a chain of studies, each around what was best before
dry_run          what a study would take, before it is begun
progress         the progress bar
tensorboard      a study for TensorBoard's HParams page
"""
