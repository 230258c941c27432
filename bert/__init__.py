"""The BERT programs."""
