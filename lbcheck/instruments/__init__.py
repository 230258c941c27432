"""Instruments: experiments that say why one setting of training is better.

ladder          which of the settings that differ between two runs matter
ladder_folder   its rungs as runs of a program, kept in a folder
ladder_page     what it found as JSON, as a table and as a box plot
ablate_command  `lbcheck ablate A.flags B.flags`
sweep           steps to a target against the batch size, and the knee
noise_scale     the gradient-noise scale, from gradients of microbatches
transplant      LAMB's layer-wise rates as AdamW's schedule per layer

Importing this package imports no framework.
"""
