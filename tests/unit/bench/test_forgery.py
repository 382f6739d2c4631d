import os

from bench import forgery

from weft.burst.header import PieceHeader, decode_piece_header, piece_size
from weft.noise.cookie import CookieChecker
from weft.noise.messages import INITIATION_BYTES, decode_initiation
from weft.noise.primitives import StaticKey


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_forged_initiations_pass_the_check_of_mac1_and_differ() -> None:
    public = StaticKey(bytes(range(32))).public
    made = cut(forgery.initiations(public, 20), INITIATION_BYTES)
    checker = CookieChecker(public, os.urandom)
    assert len(set(made)) == 20
    assert all(checker.has_mac1(message) and decode_initiation(message) for message in made)


def test_forged_pieces_have_the_index_fit_their_places_and_count_up() -> None:
    made = cut(forgery.pieces(7, 1000, 200), forgery.DATAGRAM_BYTES)
    headers = [decode_piece_header(datagram) for datagram in made]
    assert all(isinstance(header, PieceHeader) for header in headers)
    assert {header.receiver_index for header in headers} == {7}
    assert [header.counter for header in headers] == list(range(1000, 1200))
    for header in headers:
        assert piece_size(header.total, header.number, header.pieces, forgery.PIECE_BYTES) == forgery.PIECE_BYTES
