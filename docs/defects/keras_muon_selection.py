"""keras.optimizers.Muon orthogonalises biases of attention, not its kernels.

A kernel of MultiHeadAttention has rank 3 and goes to AdamW, its bias has rank
2 and goes to Muon; so does the output layer, which the docstring excludes.

    python keras_muon_selection.py
"""

import keras

inputs = keras.layers.Input((5, 8))
x = keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
model = keras.Model(inputs, keras.layers.Dense(11, name="logits")(x))
optimizer = keras.optimizers.Muon()
optimizer.build(model.trainable_variables)
for variable in model.trainable_variables:
    rule = "AdamW" if optimizer._should_use_adamw(variable) else "Muon"
    print(f"{rule:6}{tuple(variable.shape)!s:12}{variable.path}")
rules = {
    variable.path: optimizer._should_use_adamw(variable)
    for variable in model.trainable_variables
}
defect = rules["attention/query/kernel"] and not rules["attention/query/bias"]
print("expected kernels under Muon and biases under AdamW; defect:", defect)
