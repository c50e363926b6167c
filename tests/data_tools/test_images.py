"""Images of every kind that Pillow opens: shown as they are meant, or refused by name."""

import numpy as np
import pytest
from PIL import Image

from data_tools.images import PIXELS, ImageError, image_size, read_image
from tests.support.disk import huge_png

ORANGE = (250, 120, 10)
GREY = 125


def kept(image, path):
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "colour", "wanted"),
    [
        ("1", "one.png", 1, (255, 255, 255)),
        ("L", "grey.png", GREY, (GREY, GREY, GREY)),
        ("L", "grey.jpg", GREY, (GREY, GREY, GREY)),
        ("LA", "alpha.png", (GREY, 0), (GREY, GREY, GREY)),
        ("P", "palette.png", ORANGE, ORANGE),
        ("PA", "palette.tif", ORANGE, ORANGE),
        ("RGB", "colour.png", ORANGE, ORANGE),
        ("RGBA", "clear.png", (*ORANGE, 0), ORANGE),
        ("CMYK", "print.jpg", ORANGE, ORANGE),
        ("YCbCr", "video.jpg", ORANGE, ORANGE),
        ("YCbCr", "video.tif", ORANGE, ORANGE),
        ("I;16", "deep.png", GREY * 257, (GREY, GREY, GREY)),
        ("I;16", "deep.pgm", GREY * 257, (GREY, GREY, GREY)),
    ],
)
def test_a_mode_is_shown_as_it_is_meant(mode, name, colour, wanted, tmp_path):
    if mode in ("P", "PA", "CMYK", "YCbCr"):
        image = Image.new("RGB", (64, 36), colour)
        image = image.quantize() if mode in ("P", "PA") else image.convert(mode)
    else:
        image = Image.new(mode, (64, 36), colour)
    found, size = read_image(kept(image, tmp_path / name))
    assert size == image_size(tmp_path / name) == (64, 36)
    assert found.dtype == np.uint8
    assert found.shape == (36, 64, 3)
    assert np.abs(found[18, 32].astype(int) - wanted[::-1]).max() <= 3


def test_grey_of_16_bits_keeps_its_shades(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 36).reshape(36, 64).astype(np.uint16)
    found, _ = read_image(kept(Image.fromarray(ramp), tmp_path / "ramp.png"))
    assert np.array_equal(found, np.repeat((ramp >> 8)[..., None], 3, -1))


@pytest.mark.parametrize("mode", ["F", "I", "I;16", "LAB"])
def test_a_mode_whose_black_and_white_are_not_known_is_refused_by_name(mode, tmp_path):
    path = kept(Image.new(mode, (64, 36)), tmp_path / "strange.tif")
    for read in (image_size, read_image):
        with pytest.raises(
            ImageError, match=rf"strange\.tif: is a TIFF of mode {mode}.*Save it in 8 bits"
        ):
            read(path)


@pytest.mark.parametrize("turn", range(1, 9))
def test_an_image_is_turned_upright(turn, tmp_path):
    from PIL import ImageOps

    pixels = np.arange(64 * 36 * 3).reshape(36, 64, 3).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as file:
        upright = np.asarray(ImageOps.exif_transpose(file))
    found, size = read_image(tmp_path / "turned.png")
    assert np.array_equal(found[..., ::-1], upright)
    assert size == image_size(tmp_path / "turned.png") == upright.shape[1::-1]


@pytest.mark.parametrize("turn", [0, 9, 77])
def test_an_orientation_that_does_not_exist_turns_nothing(turn, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", (64, 36)).save(tmp_path / "odd.jpg", exif=exif)
    found, size = read_image(tmp_path / "odd.jpg", (32, 18))
    assert size == image_size(tmp_path / "odd.jpg") == (64, 36)
    assert found.shape == (18, 32, 3)


@pytest.mark.parametrize("name", ["large.png", "large.jpg"])
def test_an_image_is_reduced_while_it_still_covers_what_is_wanted(name, tmp_path):
    y, x = np.mgrid[:360, :640]
    pixels = np.stack([x / 640, y / 360, (x + y) / 1000], -1) * 255
    path = kept(Image.fromarray(pixels.astype(np.uint8)), tmp_path / name)
    found, size = read_image(path, (160, 80))
    assert size == (640, 360)
    assert found.shape == (90, 160, 3)
    whole = pixels.reshape(90, 4, 160, 4, 3).mean((1, 3))
    assert np.abs(found[..., ::-1] - whole).mean() < 2


@pytest.mark.parametrize(("width", "height"), [(15_001, 10_000), (20_000, 20_000)])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(width, height, tmp_path):
    (tmp_path / "huge.png").write_bytes(huge_png(width, height))
    assert width * height > PIXELS
    for read in (image_size, read_image):
        with pytest.raises(
            ImageError,
            match=rf"huge\.png: has .*{width * height / 1e6:.0f} megapixels, more than 150\. Scale",
        ):
            read(tmp_path / "huge.png")


def test_what_is_no_image_is_named_with_what_to_do(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    for read in (image_size, read_image):
        with pytest.raises(ImageError, match=r"page\.jpg: not a readable image .*Put it back"):
            read(tmp_path / "page.jpg")
        with pytest.raises(ImageError, match=r"none\.jpg: cannot be read \(No such file"):
            read(tmp_path / "none.jpg")
        with pytest.raises(ImageError, match=r"cannot be read \(Is a directory"):
            read(tmp_path)
