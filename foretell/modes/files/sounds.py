"""Encoded sounds as waveforms, for models that take samples."""

import io
from typing import Any

import numpy as np

from foretell.plugins import needs_extra
from foretell.tensors import Array, Signature

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
MOST_SAMPLES = 2**28
"""Of all channels together, and of what comes out: a few bytes may say that they are hours of sound."""
LEAST_HZ, MOST_HZ = 100, 6_144_000
"""Rates that sounds are taken at, from slow sensors to ultrasound."""


def takes_samples(signature: Signature) -> bool:
    """Whether a row is one waveform: the only input is floats along one axis."""
    return len(signature.inputs) == 1 and signature.inputs[0].dtype.is_float and len(signature.inputs[0].shape) == 1


def decode_sound(data: bytes, rate_hz: int) -> Array:
    """The mean of the channels as FP32 [samples], from -1 to 1, at ``rate_hz``. Raises ValueError for what is no sound."""
    with needs_extra("a folder of sounds", "audio"):
        import soundfile  # type: ignore[import-untyped]
        import soxr  # type: ignore[import-untyped]
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            own_hz = sound.samplerate
            _check(sound.frames, sound.channels, own_hz, rate_hz)
            samples: Any = sound.read(dtype="float32", always_2d=True).mean(axis=1, dtype=np.float32)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"it does not decode as a sound: {error.error_string}") from error
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"it does not decode as a sound: {error}") from error
    return np.asarray(samples if own_hz == rate_hz else soxr.resample(samples, own_hz, rate_hz), dtype=np.float32)


def _check(frames: int, channels: int, own_hz: int, rate_hz: int) -> None:
    """That what is read, and what is made of it at another rate, is not too much. Raises ValueError."""
    if not LEAST_HZ <= own_hz <= MOST_HZ:
        raise ValueError(f"the sound has {own_hz} samples a second, those of {LEAST_HZ} to {MOST_HZ} are read")
    most = frames * max(channels, rate_hz / own_hz)
    if most > MOST_SAMPLES:
        raise ValueError(f"the sound has {most:.0f} samples, at most {MOST_SAMPLES} are read")
