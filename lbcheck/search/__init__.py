"""What is searched: hyperparameters, spaces of them, and arms.

parameter  one hyperparameter: its range, scale and unit
space      a search space and its i-th point
routing    which argument of schedule, optimizer or model takes a value
arm        an optimizer with its fallback, schedule and space
arms/      the arms that come with this package
"""
