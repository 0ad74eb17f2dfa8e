import numpy as np

from hf_faceenh.learning.sheets import HEADER, contact_sheet


def test_columns_of_pictures_stand_under_their_headings():
    pictures = [np.full((4, 30, 3), value, np.uint8) for value in (10, 20, 30, 40)]
    sheet = contact_sheet([("left", pictures[:2]), ("", pictures[2:])])
    assert sheet.shape == (HEADER + 8, 60, 3) and sheet.dtype == np.uint8
    assert sheet[HEADER::4, ::30, 0].tolist() == [[10, 30], [20, 40]]
    assert sheet[:HEADER, :30].min() < 100 and (sheet[:HEADER, 30:] == 255).all()
