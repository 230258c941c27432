"""Writes lbcheck's table of the operations that a TPU compiles.

Needs the package tensorflow-tpu (in the place of tensorflow) and no TPU:

    python benchmarks/tpu_operations.py
"""

import json

import tensorflow as tf
from tensorflow.python.framework import kernels

from lbcheck.training.backends import tpu_programs


def registered():
    """{operation: {attribute: names of its types}} of XLA_TPU_JIT."""
    compiled = tf.function(lambda x: x + 1, jit_compile=True)
    compiled.experimental_get_compiler_ir(tf.ones(2))(  # registers kernels
        stage="hlo", platform_name="TPU"
    )
    found = {}
    for kernel in kernels.get_all_registered_kernels().kernel:
        if kernel.device_type != "XLA_TPU_JIT":
            continue
        found[kernel.op] = {
            constraint.name: " ".join(
                sorted(
                    tf.as_dtype(number).name
                    for number in constraint.allowed_values.list.type
                )
            )
            for constraint in kernel.constraint
        }
    return dict(sorted(found.items()))


def main():
    operations = registered()
    types = sorted(
        {t for kernel in operations.values() for t in kernel.values()}
    )
    lines = [
        f"  {json.dumps(name)}: "
        + json.dumps({a: types.index(t) for a, t in sorted(kernel.items())})
        for name, kernel in operations.items()
    ]
    text = "{\n"
    text += f'"tensorflow-tpu": "{tf.__version__}",\n'
    text += '"types": [\n  ' + ",\n  ".join(map(json.dumps, types)) + "\n],\n"
    text += '"operations": {\n' + ",\n".join(lines) + "\n}\n}\n"
    tpu_programs.KERNELS.write_text(text)
    print(f"{tpu_programs.KERNELS}: {len(operations)} operations")


if __name__ == "__main__":
    main()
