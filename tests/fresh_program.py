"""Runs a program of another copy of this repository, in a fork that has ours.

    Program("tests.fresh_program", [module, *arguments], cwd=copy)

TensorFlow and the Kerases stay imported; what is ours is forgotten.
"""

import runpy
import sys

import keras
import tf_keras

for name in list(sys.modules):
    if name.partition(".")[0] in ("bert", "lbcheck", "resnet", "tests"):
        del sys.modules[name]
for library in (keras, tf_keras):
    registered = library.saving.get_custom_objects()
    for name in [name for name in registered if name.startswith("lbcheck>")]:
        del registered[name]

_, module, *arguments = sys.argv
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
