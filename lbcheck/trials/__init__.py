"""One trial: a model trained once, with hyperparameters that are given.

workload          what is trained: a model, its data, its steps, its metric
trial_data        training and validation data, from arrays
stream            the same from what comes in batches
content           what data hold, looked at once
user_model        a user's model: built, compiled, with another optimizer
initial_values    what a build decides for a seed
guard             hyperparameters that remember what a build asks them
guarded_variable  hyperparameters as scalar TensorFlow variables
traced_step       one traced loop for all trials of an arm
scalar_argument   hyperparameters as arguments of a compiled step, on JAX
shared_step       one compiled step for all trials of an arm, on JAX
rebuilt_model     a new model for each trial, where none is shared
trainer           runs trials and makes their records
learning_rates    the rates of a trial, for its record
fingerprint       what a trial is about, in numbers that notice an edit
code              digests of a user's code, for the fingerprint
fingerprint_difference  what differs between two fingerprints, in words
"""
