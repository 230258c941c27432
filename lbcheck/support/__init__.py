"""What every room uses and no optimizer knows of; imports no other room.

files        writing whole or not at all, for any number of processes; locks
schema       reading outside files: shape, types and ranges checked first
exit_codes   the codes of every command and program
errors       an error as one sentence
command      how every command and program starts, and how it ends
"""
