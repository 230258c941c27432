"""What a run will need of a machine, before there is one: `lbcheck plan`.

run           what a program says of a run: its options, its network, its data
topologies    the machines: devices, their memory and their arithmetic
counts        multiply-adds of an operation
steps         the operations of a graph where they run, as often as they run
graph         what a traced train step computes and what it keeps
network       a run's train step, traced without making its weights
planning      memory, microbatches, hours and dollars, all by division
page          a plan as text
plan_command  the command

Importing this package imports no framework.
"""

from lbcheck.plan.run import Run

__all__ = ["Run"]
