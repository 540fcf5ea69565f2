"""The pixel rules computed slowly and plainly in float64 (paper 2.2; design 5).

Written from the paper and the design, on whole float images with NumPy's own percentiles, so that
tables, histograms and fixed-point sums can be held to it.
"""

import numpy as np

PERCENTS = (0.1, 99.9)


def gray(pixels):
    """Take a plane as float64; three channels become their plain mean."""
    if pixels.ndim == 2:
        return pixels.astype(np.float64)
    red, green, blue = (pixels[..., channel].astype(np.float64) for channel in range(3))
    return (red + green + blue) / 3


def stretch(values, percents=PERCENTS):
    """Stretch float values between two of their percentiles to 0..255."""
    low, high = np.percentile(values, percents)
    return np.clip((values - low) / (high - low), 0, 1) * 255


def record(planes, percents=PERCENTS):
    """Normalize each plane and average them: the record as a float64 image of 0..255."""
    stretched = [stretch(gray(pixels), percents) for pixels in planes]
    return stretched[0] if len(stretched) == 1 else sum(stretched) / len(stretched)


def crop(values, box, percents=PERCENTS):
    """Cut a window out of a float64 record, stretch it again and round once."""
    return rounded(stretch(cut(values, box), percents))


def rounded(values):
    """Round half to even to 8 bits."""
    return np.rint(values).astype(np.uint8)


def cut(image, box):
    """Cut x_min, y_min, x_max, y_max (end-exclusive) out of an image."""
    x_min, y_min, x_max, y_max = box
    return image[y_min:y_max, x_min:x_max]


def faults(values, raw, *, whole):
    """Name every refusal rule (all but contrast) that a window breaks.

    Args:
        values: float64 window, 0..255.
        raw: the window's raw values (their number of distinct ones counts).
        whole: the record is kept whole (never dim; constant is judged on the plane).
    """
    low, high, dim = np.percentile(values, [*PERCENTS, 75])
    mean, distinct = values.mean(), len(np.unique(raw))
    found = {
        "all black": mean <= 1,
        "all white": mean >= 254,
        "constant": low == high or distinct == 1,
        "binary": distinct == 2,
        "dim": dim == 0 and not whole,
    }
    return {name for name, broken in found.items() if broken}
