"""Programs as trials: `lbcheck compare --program=resnet.train`.

A trial is a run of a training program with its flags, and its folder is the
record: strategy, accumulation, phases and resume come with the program.

command_lines  which flags of a command line are the program's
program        what a study trains: a program, its length and its metric
program_arm    an arm: a flagfile, or a search space over flags
source         digests of a program's modules, which notice an edit
runs           runs a trial in a process of its own
run_folder     what the folder of a run says came out
child          that process: it ends with the worker that started it

Importing this package imports no framework, and no program.
"""
