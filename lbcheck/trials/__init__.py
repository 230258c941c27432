"""One trial: a model trained once, with hyperparameters that are given.

workload          what is trained: a model, its data, its steps, its metric
trial_data        training and validation data, from arrays
stream            the same from what comes in batches
content           what data hold, looked at once
user_model        a user's model: built, compiled, with another optimizer
guarded_variable  hyperparameters as scalar TensorFlow variables
traced_step       one traced loop for all trials of an arm
rebuilt_model     a new model for each trial, on jax and torch
trainer           runs trials and makes their records
learning_rates    the rates of a trial, for its record
fingerprint       what a trial is about, in numbers that notice an edit
code              digests of a user's code, for the fingerprint
fingerprint_difference  what differs between two fingerprints, in words
"""
