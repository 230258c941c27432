"""Text to the records that BERT is pretrained on, shard by shard.

`documents` reads text in blocks, `blocks` keeps their token ids, `shards`
deals the documents out and writes a shard each; `pairs` lays out the
sentence pairs, `masking` fills and masks them, `records` writes them down.
`production` is the whole of it, with workers and resume. None of these
modules imports TensorFlow.
"""
