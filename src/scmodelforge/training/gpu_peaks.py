"""What GPUs can compute at most, as their makers state it: dense bf16 with 32-bit sums, without sparsity.

Sources: NVIDIA's data sheets of the A10, A30, A40, A100, L4, L40, L40S, H100, H200, H20 and of the HGX B200, and its
white papers on the architectures GA102 (RTX 3090), Ada (RTX 4090) and RTX Blackwell (RTX 5090), which tell sums in 16
and 32 bits apart; AMD's data sheets of the MI250X and MI300X. Where a sheet gives the figure with sparsity, half of it
stands here.
"""

from __future__ import annotations

__all__ = ["peak_flops"]

_TERA = 10**12

#: TFLOP/s by what a name holds; of several that fit, the first.
_PEAKS: tuple[tuple[str, float], ...] = (
    ("B200", 2250.0),
    ("H200 NVL", 835.5),
    ("H200", 989.4),
    ("GH200", 989.4),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.5),
    ("H100", 989.4),
    ("H800", 989.4),
    ("H20", 148.0),
    ("A100", 312.0),
    ("A800", 312.0),
    ("A40", 149.7),
    ("A30", 165.0),
    ("A10G", 70.0),
    ("A10", 125.0),
    ("L40S", 362.0),
    ("L40", 181.0),
    ("L4", 121.0),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 6000 Ada", 364.2),
    ("RTX A6000", 154.8),
    ("RTX 3090", 71.0),
    ("MI300X", 1307.4),
    ("MI250X", 191.5),  # of one of its two dies, which are a device each
)

#: Parts of GPUs, and other GPUs whose names hold one of those above.
_OTHERS = ("MIG", "RTX 4090 D", "RTX 4090 Laptop", "RTX 5090 D", "RTX 5090 Laptop", "RTX 3090 Ti")


def peak_flops(device_name: str) -> float | None:
    """Return the dense bf16 peak of a GPU in FLOP/s.

    Parameters
    ----------
    device_name
        Its name, as ``torch.cuda.get_device_name`` gives it.

    Returns
    -------
    ``None`` for a GPU that is not listed, or has no bf16 units, such as the T4 and the V100.
    """
    words = f" {device_name.replace('-', ' ')} "
    if any(f" {name} " in words for name in _OTHERS):
        return None
    return next((peak * _TERA for name, peak in _PEAKS if f" {name} " in words), None)
