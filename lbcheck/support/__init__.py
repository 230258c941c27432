"""What every room uses and no optimizer knows of; imports no other room.

files        writing whole or not at all, for any number of processes; locks
checks       what counts as a number, and which are finite
schema       reading outside files: shape, types and ranges checked first
exit_codes   the codes of every command and program
errors       an error as one sentence
extras       which extra of lbcheck brings a library that is not installed
command      how every command and program starts, and how it ends
flagfiles    flagfiles, read as data, with the line of each flag
npz          .npz files, read without unpickling
shipped      where the data files of the project are; builtin:NAME
kerases      which Keras is meant, and what registers with each
load_object  what a user names as module:attribute
plugins      names that installed distributions add
processes    several workers on one machine, and how they are stopped
random_state the random state of a process, kept and set
dtype_policy the dtype policy that a process has set, kept and set
text_table   a table for a terminal
event_file   TensorBoard event files, written without TensorFlow
"""
