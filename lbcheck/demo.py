"""`make run`: a minute with what exists, on a small problem made here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import lbcheck


def spirals(count, seed):
    """Three intertwined spirals: points (count, 2) and labels (count,)."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    radius = generator.uniform(0.1, 1.0, count)
    angle = 4.0 * radius + labels * 2.0 * np.pi / 3.0
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    points += generator.normal(0.0, 0.02, points.shape)
    return points.astype("float32"), labels


def build_model():
    """Two hidden layers with layer normalisation."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.layers.Input((2,)),
            keras.layers.Dense(64, activation="relu", name="first"),
            keras.layers.LayerNormalization(name="LayerNorm_1"),
            keras.layers.Dense(64, activation="relu", name="second"),
            keras.layers.Dense(3, name="logits"),
        ]
    )


def show_audit():
    """Keras's own exclusion, and ours, on the same model."""
    theirs = keras.optimizers.AdamW(weight_decay=0.01)
    theirs.exclude_from_weight_decay(var_names=["LayerNorm", "bias"])
    for name, optimizer in (
        ("keras.optimizers.AdamW, excluding LayerNorm and bias", theirs),
        ("lbcheck.AdamW", lbcheck.AdamW(weight_decay=0.01)),
    ):
        print(f"\n== lbcheck.audit: {name}\n")
        print(lbcheck.audit(build_model(), optimizer))


def show_step():
    """One step of LAMB: what Keras calls so is another optimizer."""
    print("\n== One step of LAMB, weight decay 0.1, rate 0.1, w = [1 2 3 4]\n")
    for name, optimizer in (
        ("keras.optimizers.Lamb", keras.optimizers.Lamb(0.1, weight_decay=0.1)),
        ("lbcheck.LAMB", lbcheck.LAMB(0.1, weight_decay=0.1)),
        (
            "... dialect='keras'",
            lbcheck.LAMB(0.1, weight_decay=0.1, dialect="keras"),
        ),
    ):
        variable = keras.Variable([[1.0, 2.0, 3.0, 4.0]], name="kernel")
        gradient = keras.ops.convert_to_tensor([[0.1, -0.2, 0.3, 0.4]])
        optimizer.apply([gradient], [variable])
        print(f"{name:24}{np.round(variable.numpy()[0], 4)}")


def show_training():
    """The four arms at batch 512, each at one rate that nobody tuned."""
    print("\n== 200 updates at batch 512 (no tuning: this compares nothing)\n")
    train, test = spirals(8192, 1), spirals(2048, 2)
    optimizers = {
        "nesterov": lbcheck.Nesterov(0.1),
        "lars": lbcheck.LARS(0.2, trust_coefficient=0.1),
        "adamw": lbcheck.AdamW(0.01),
        "lamb": lbcheck.LAMB(0.02, diagnostics_every=50),
    }
    for name, optimizer in optimizers.items():
        model = build_model()
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(True),
            metrics=["accuracy"],
        )
        model.fit(*train, batch_size=512, epochs=13, verbose=0)
        accuracy = model.evaluate(*test, verbose=0)[1]
        print(f"{name:10} test accuracy {accuracy:.3f}", flush=True)
    print("\nLAMB's effective rate at its last recorded update:")
    for path, values in optimizers["lamb"].diagnostics().items():
        print(
            f"  {path:34}rate {values.learning_rate:.3f} x trust ratio "
            f"{values.trust_ratio:7.3f} = {values.effective_rate:.4f}"
        )


if __name__ == "__main__":
    show_audit()
    show_step()
    show_training()
