"""Models of PyTorch: exported programs (.pt2), TorchScript, and weights in safetensors with the class that they are for."""

from pathlib import Path

import torch

from foretell.backends import Backend, ModelOptions, reading_model
from foretell.backends.torch.chosen import EXPORT
from foretell.backends.torch.described import load_class, load_script
from foretell.backends.torch.exported import load_exported
from foretell.cpus import usable_cpus
from foretell.errors import Setup
from foretell.formats.torch import COMPILED, EXPORTED, PICKLED, SCRIPT, kind_of


def load(source: str, options: ModelOptions) -> Backend:
    """The model in a file of PyTorch.

    ``.pt2``: an exported program, which brings its signature. Without ``options.trust`` only one that holds nothing but numbers
    and known operators. TorchScript: only with ``trust``; ``inputs`` of ``options.options`` names and describes what it takes:
    ``{"image": "FP32[1, 8, 8]"}``. ``.safetensors``: ``class`` is that of the module, ``net.py:Net`` beside the file, made with
    the keywords of ``arguments``; ``inputs`` as before. ``outputs`` may be described too, and must be where an input's shape
    leaves a length open. ``options.providers`` is the device; ``options.threads`` are those of the whole process. Raises Setup
    ``broken_model``, ``untrusted_model``, ``wrong_provider``, ``wrong_setting``, ``missing_file`` or ``broken_code``.
    """
    path = Path(source)
    torch.set_num_threads(options.threads or usable_cpus())
    if path.suffix.lower() == ".safetensors":
        return load_class(path, options)
    with reading_model(path, f"check that the file is complete, or {EXPORT}"):
        kind = kind_of(path)
    if kind == EXPORTED:
        return load_exported(path, options)
    if kind == SCRIPT:
        return load_script(path, options)
    why = {
        PICKLED: "a pickle of torch.save, and reading a pickle can run any code in it",
        COMPILED: "compiled code for one kind of machine",
    }[kind]
    raise Setup(
        "broken_model",
        f"{path} is {why}: {EXPORT}, or save its weights with safetensors.torch.save_file(model.state_dict(), "
        "'model.safetensors') and name the class in [model.options]",
    )
