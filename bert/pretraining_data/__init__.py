"""Text to the records that BERT is pretrained on, shard by shard.

`text_sources` reads text in blocks, `token_blocks` keeps their token ids,
`shards` deals the documents out and writes a shard each; `sentence_pairs`
lays out the sentence pairs, `masking` fills and masks them, `records` writes
them down.
`pipeline` is the whole of it, with workers and resume. None of these
modules imports TensorFlow.
"""
