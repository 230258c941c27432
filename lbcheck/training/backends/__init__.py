"""What training needs of a Keras, and how each Keras and backend gives it.

engines                     what an engine is, and which one a run takes
keras3, tf_keras            the engines
accumulated_step            an optimizer update of microbatches, TensorFlow
tf_keras_updates            the same in tf_keras
keras3_updates              the same in Keras 3, whichever backend
keras3_tensorflow_updates   on TensorFlow
keras3_jax_updates          on JAX
"""
