"""Data that programs and studies share.

shuffled_order  the order of examples in memory, epoch after epoch
tfrecords       TFRecord files: their number of records, streams of them
pipeline        what every tf.data pipeline here has in common
"""
