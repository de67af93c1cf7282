"""How many filters the decoder of a preset has."""

_LEAST, _MOST = 16, 64


def decoder_filters(given: int | None, side: int) -> int:
    """Returns the filters of a decoder's last layer, and of a discriminator's first.

    Pathak et al. 2016 have 64, for images of 128 pixels. Smaller images get fewer: with 64, the decoder
    of images of 32 pixels takes most of the time in which a small encoder is trained, and is not kept.

    Args:
        given: what the user set; `None` chooses.
        side: shorter side of the images, in pixels.
    """
    return min(_MOST, max(_LEAST, side // 2)) if given is None else given
