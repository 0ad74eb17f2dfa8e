"""Texts and resolution, from the file read to the file written; what is written is read without Pillow."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational
from samples import PROCESSOR, TAG, encoded, enhanced, exif_block, gradient

from hf_faceenh.pictures import photoshop, xmp
from hf_faceenh.pictures.exif import Exif

PICTURE = Image.fromarray(gradient())
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    b'dc:creator="someone" tiff:Orientation="6"><tiff:ImageWidth>48</tiff:ImageWidth></rdf:Description></rdf:RDF>'
    b"</x:xmpmeta>"
)
IPTC = b"\x1c\x02\x78\x00\x07A beach\x1c\x02\x50\x00\x05Elias"  # caption and author
LINE = "hf-faceenh 1.2 enhanced the faces: bundled model, upscale=2"


def segments(data):
    """Markers and contents of a JPEG's header."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at + 4 : at + 2 + size]))
        at += 2 + size
    return found


def chunks(data):
    """Types and contents of a PNG's chunks; their checksums are right."""
    at, found = 8, []
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + content) == int.from_bytes(data[at + 8 + size : at + 12 + size], "big")
        found.append((kind, content))
        at += 12 + size
    return found


def jpeg(**options):
    return encoded(PICTURE, "JPEG", **options)


def described_jpeg():
    """With everything: EXIF, XMP, IPTC, a comment and a resolution."""
    block = photoshop.APP13 + photoshop.packed({photoshop.IPTC: IPTC, 0x040A: b"\1", 0x0409: b"thumbnail"})
    extra = b"\xff\xed" + struct.pack(">H", len(block) + 2) + block
    packet = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    extra += b"\xff\xe1" + struct.pack(">H", len(packet) + 2) + packet
    exif = exif_block(Orientation=6, Artist="Elias", Software="Scanner 3", XPTitle="Strand".encode("utf-16-le"))
    exif[TAG.DateTimeOriginal] = "1931:05:02 12:00:00"  # some programs write it here
    return jpeg(exif=exif, comment=b"scanned", dpi=(600, 600), extra=extra)


def described_png(**options):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "A beach")
    info.add_itxt("Author", "Élias 山", "fr", "Auteur")
    info.add_text("Long", "word " * 1000, zip=True)
    info.add_text("Software", "Scanner 3")
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return encoded(PICTURE, "PNG", pnginfo=info, dpi=(300, 300), **options)


def result(source, path, **options):
    loaded = PROCESSOR.load(source)
    PROCESSOR.save(enhanced(loaded), path, loaded.info, **options)
    return path.read_bytes()


def test_a_jpeg_keeps_all_its_texts(tmp_path):
    found = segments(result(described_jpeg(), tmp_path / "out.jpg"))
    assert [content for marker, content in found if marker == 0xFE] == [b"scanned"]
    (app13,) = (content for marker, content in found if marker == 0xED)
    assert photoshop.resources(app13[14:]) == {photoshop.IPTC: IPTC, 0x040A: b"\1"}  # but no old thumbnail
    (packet,) = (content for marker, content in found if content.startswith(b"http://ns.adobe.com/xap"))
    assert b'dc:creator="someone"' in packet and b'Orientation="1"' in packet
    assert b"<tiff:ImageWidth>96</tiff:ImageWidth>" in packet  # 64 × 48 px, upright and twice as large
    (app0,) = (content for marker, content in found if marker == 0xE0)
    assert struct.unpack(">5sHBHH", app0[:12]) == (b"JFIF\0", 0x101, 1, 1200, 1200)
    exif = Exif.read(next(content for marker, content in found if content.startswith(b"Exif")))
    assert exif.text(TAG.Artist) == "Elias" and exif.text(TAG.Software) == "Scanner 3"
    assert exif.text(TAG.DateTimeOriginal) == "1931:05:02 12:00:00" and TAG.Orientation not in exif.tags
    assert exif.tags[TAG.XPTitle].data.decode("utf-16-le") == "Strand"


def test_a_png_keeps_all_its_texts(tmp_path):
    found = chunks(result(described_png(), tmp_path / "out.png"))
    assert (b"tEXt", b"Title\0A beach") in found and (b"tEXt", b"Software\0Scanner 3") in found
    assert (b"iTXt", b"Author\0\0\0fr\0Auteur\0" + "Élias 山".encode()) in found
    (long,) = (content for kind, content in found if kind == b"zTXt")
    assert long.startswith(b"Long\0\0") and zlib.decompress(long[6:]).decode() == "word " * 1000
    packets = [content for kind, content in found if content.startswith(b"XML:com.adobe.xmp")]
    assert len(packets) == 1 and b"someone" in packets[0]
    assert (b"pHYs", struct.pack(">IIB", 23622, 23622, 1)) in found  # per metre: 600 dpi
    assert found[0][0] == b"IHDR" and found[-1][0] == b"IEND"


def test_a_tiff_keeps_all_its_texts(tmp_path):
    extratags = [(700, "B", len(XMP), XMP, True), (33723, "B", len(IPTC), IPTC, True)]
    extratags += [(315, "s", 0, "Élias".encode(), True), (33432, "s", 0, "nobody", True)]
    path = tmp_path / "in.tif"
    options = {"resolution": (200, 200), "resolutionunit": "CENTIMETER", "description": "A beach"}
    tifffile.imwrite(path, gradient(), photometric="rgb", extratags=extratags, metadata=None, **options)
    result(path, tmp_path / "out.tif", provenance=LINE)
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        tags = file.pages[0].tags
        assert b'creator="someone"' in tags[700].value and b'Orientation="6"' not in tags[700].value
        assert bytes(tags[33723].value) == IPTC
        assert tags["ImageDescription"].value == "A beach" and tags["Copyright"].value == "nobody"
        assert tags["Artist"].value in ("Élias", "Élias".encode().decode("latin-1"))  # by tifffile's version
        assert tags["Software"].value == f"tifffile.py; {LINE}"
        resolution = [tags[name].value for name in ("XResolution", "YResolution")]
        assert all(abs(a / b - 2 * 508) < 0.01 for a, b in resolution) and tags["ResolutionUnit"].value == 2
        turned = np.rot90(gradient(), 3)  # as XMP says
        np.testing.assert_array_equal(file.pages[0].asarray(), turned.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".avif"])
def test_a_jpegs_texts_find_a_place_in_other_formats(suffix, tmp_path):
    result(described_jpeg(), tmp_path / f"out{suffix}")
    again = PROCESSOR.load(tmp_path / f"out{suffix}").info
    assert b'creator="someone"' in again.xmp and [round(x) for x in again.dpi] == [1200, 1200]
    exif = Exif.read(again.exif)
    assert exif.text(TAG.Artist) == "Elias"
    if suffix == ".png":
        assert [text.value for text in again.text if text.keyword == "Comment"] == ["scanned"]
    else:
        assert exif.tags[ExifTags.IFD.Exif][TAG.UserComment].data == b"ASCII\0\0\0scanned"
    if suffix in (".png", ".tif"):  # the others have no place for it
        assert again.photoshop == {photoshop.IPTC: IPTC, 0x040A: b"\1"}
    back = PROCESSOR.load(result(tmp_path / f"out{suffix}", tmp_path / "back.jpg")).info
    assert b"someone" in back.xmp and [round(x) for x in back.dpi] == [2400, 2400]


def test_a_pngs_texts_find_a_place_in_a_jpeg(tmp_path):
    info = PROCESSOR.load(result(described_png(), tmp_path / "out.jpg", provenance=LINE)).info
    exif = Exif.read(info.exif)
    assert exif.text(TAG.ImageDescription) == "A beach" and exif.text(TAG.Artist) == "Élias 山"
    assert exif.text(TAG.Software) == f"Scanner 3; {LINE}"
    assert info.comment.decode() == "Long: " + "word " * 1000 and b"someone" in info.xmp


def test_texts_of_any_encoding_and_type_stay_to_the_byte(tmp_path):
    """Big-endian, with UTF-8 where the standard has ASCII, a text in UTF-16, a place, and a signed fraction."""
    exif = exif_block(Artist="?" * 6, Copyright="Ö" * 3)
    exif[ExifTags.IFD.Exif] = {
        TAG.UserComment: b"UNICODE\0" + "Grüße".encode("utf-16-be"),
        TAG.ExposureBiasValue: IFDRational(-1, 2),
    }
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (51.0, 30.0, 12.5)}
    exif.endian = ">"
    block = exif.tobytes().replace(b"??????", "Ö山!".encode())
    for suffix in (".jpg", ".png", ".webp", ".tif"):
        info = PROCESSOR.load(result(jpeg(exif=block), tmp_path / f"out{suffix}")).info
        tags, expected = Exif.read(info.exif).in_order(">").tags, Exif.read(block).tags
        assert tags[TAG.Artist].data.rstrip(b"\0").decode() == "Ö山!"
        details, place = tags[ExifTags.IFD.Exif], tags[ExifTags.IFD.GPSInfo]
        assert details[TAG.UserComment].data == b"UNICODE\0" + "Grüße".encode("utf-16-be")
        assert details[TAG.ExposureBiasValue].data == struct.pack(">ii", -1, 2)
        assert place == expected[ExifTags.IFD.GPSInfo]


def test_no_resolution_stays_none(tmp_path):
    for exif in (None, exif_block(Artist="Elias")):
        for suffix in (".jpg", ".png", ".tif", ".webp", ".bmp"):
            loaded = PROCESSOR.load(jpeg(**({} if exif is None else {"exif": exif})))
            assert loaded.info.dpi is None
            PROCESSOR.save(enhanced(loaded), tmp_path / f"out{suffix}", loaded.info, provenance=LINE)
            assert PROCESSOR.load(tmp_path / f"out{suffix}").info.dpi is None, suffix


def test_a_resolution_in_exif_alone_grows_too(tmp_path):
    exif = exif_block(XResolution=118.0, YResolution=118.0, ResolutionUnit=3)  # per centimetre
    info = PROCESSOR.load(result(jpeg(exif=exif), tmp_path / "out.jpg")).info
    assert Exif.read(info.exif).fraction(TAG.XResolution) == 236 and round(info.dpi[0]) == 599


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".avif", ".gif"])
def test_provenance_is_added_once_however_often_a_picture_comes_by(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    result(described_jpeg(), path, provenance=LINE)
    for line in (LINE, LINE, LINE + ", strength=0.5"):
        loaded = PROCESSOR.load(path)
        PROCESSOR.save(PROCESSOR.to_output(loaded.pixels, loaded), path, loaded.info, provenance=line)
    assert path.read_bytes().count(LINE.encode()) == 2
    info = PROCESSOR.load(path).info
    if suffix == ".gif":
        assert info.comment.decode() == f"scanned\n{LINE}\n{LINE}, strength=0.5"
    elif suffix == ".png":
        assert {text.keyword: text.value for text in info.text}["Software"] == f"{LINE}; {LINE}, strength=0.5"
        assert Exif.read(info.exif).text(TAG.Software) == "Scanner 3"
    else:
        assert Exif.read(info.exif).text(TAG.Software) == f"Scanner 3; {LINE}; {LINE}, strength=0.5"
    result(described_jpeg(), path)
    assert b"hf-faceenh" not in path.read_bytes()


def test_blocks_that_do_not_fit_do_not_stop_the_picture(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "<x>" + "y" * 70_000 + "</x>")
    info.add_text("Note", "z" * 70_000, zip=True)
    source = encoded(PICTURE, "PNG", pnginfo=info, exif=exif_block(ImageDescription="e" * 70_000))
    again = PROCESSOR.load(result(source, tmp_path / "out.jpg", provenance=LINE)).info
    assert again.xmp is None and len(again.comment) == 65533 and Exif.read(again.exif).text(TAG.Software) == LINE
    for suffix in (".png", ".webp", ".tif"):
        again = PROCESSOR.load(result(source, tmp_path / f"out{suffix}")).info
        assert len(again.xmp) > 70_000 and len(Exif.read(again.exif).text(TAG.ImageDescription)) == 70_000


def test_what_xmp_says_of_the_file_is_set_right():
    cases = {
        b"<a exif:PixelXDimension = '48' b=\"48\">": b"<a exif:PixelXDimension = '96' b=\"48\">",
        b"<exif:PixelYDimension>64</exif:PixelYDimension>": b"<exif:PixelYDimension>128</exif:PixelYDimension>",
        b'<a tiff:XResolution="720000/10000">': b'<a tiff:XResolution="1440000/10000">',
        b"<tiff:YResolution> 72/1</tiff:YResolution>": b"<tiff:YResolution> 144/1</tiff:YResolution>",
        b"<tiff:Orientation>8</tiff:Orientation>": b"<tiff:Orientation>1</tiff:Orientation>",
        b"<crs:Orientation>8</crs:Orientation>": b"<crs:Orientation>8</crs:Orientation>",
        b"<a><xmp:Thumbnails><b>/9j/</b></xmp:Thumbnails></a>": b"<a></a>",
        b'<a xmpNote:HasExtendedXMP="4F"/>': b"<a/>",
    }
    for packet, expected in cases.items():
        assert xmp.adapted(packet, (96, 128), 2) == expected


def test_damaged_texts_are_left_out(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + struct.pack("<HHI4s", 0x10E, 2, 4, b"abc\0")
    exif += struct.pack("<HHII", 0x13B, 2, 4000, 9999) + bytes(4)  # beyond the end
    extra = b"\xff\xed\0\x18Photoshop 3.0\0" + b"8BIM\4\4\0\0"
    info = PROCESSOR.load(result(jpeg(exif=exif, extra=extra), tmp_path / "out.jpg")).info
    assert set(Exif.read(info.exif).tags) == {TAG.ImageDescription} and info.photoshop is None
