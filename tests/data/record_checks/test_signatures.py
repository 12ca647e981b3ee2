"""Signatures depend on the words of a text alone, and are the same whatever other texts are in the batch."""

import numpy as np
import pytest
from planted_records import sentence

from orca_bench.data.record_checks.signatures import BANDS, shingle_similarity, signatures_of, text_sha256

TEXTS = [
    sentence(1, 40),
    "",
    "one",
    "one two",
    "!!!",
    "Über Änderungen an älteren Öfen, 12 km weit",
    "他昨天在市场上买了三个苹果和两个梨子",
    "彼は学校に行きました。そして友達に会いました。",
    "สวัสดีครับวันนี้อากาศดี",
    sentence(2, 900),
]


def signatures(texts):
    return signatures_of(texts, [text_sha256(text) for text in texts])


def shingles(text):
    return signatures([text]).shingle_hashes


def test_a_batch_gives_what_its_texts_give_alone():
    whole = signatures(TEXTS)
    ends = np.cumsum(whole.shingle_counts)
    for index, text in enumerate(TEXTS):
        alone = signatures([text])
        assert (whole.band_hashes[index] == alone.band_hashes[0]).all()
        assert (whole.text_hashes[index] == alone.text_hashes[0]).all()
        assert whole.shingle_hashes[ends[index] - whole.shingle_counts[index] : ends[index]].tolist() == (
            alone.shingle_hashes.tolist()
        )


def test_no_texts_give_no_signatures():
    empty = signatures([])
    assert len(empty) == 0 and empty.band_hashes.shape == (0, BANDS) and empty.text_hashes.shape == (0, 2)


def test_the_hashes_are_those_of_every_machine_and_version():
    """Signatures of shards are merged that other machines may have written."""
    signature = signatures(["The harbour was quiet in the morning."])
    assert signature.shingle_hashes.tolist() == SHINGLES
    assert signature.band_hashes[0, :3].tolist() == FIRST_BANDS


SHINGLES = [1078674031, 2597263815, 3202387395, 4104953969, 4142024862]
FIRST_BANDS = [2336956238, 4232506170, 2646322095]


def test_case_and_signs_do_not_count_and_the_order_of_words_does():
    assert (shingles("One, two: THREE four!") == shingles("one two three four")).all()
    assert shingle_similarity(shingles("one two three four"), shingles("four three two one")) == 0.0


@pytest.mark.parametrize(
    ("text", "other", "similarity"),
    [
        ("a b c d", "a b c d", 1.0),
        ("a b c d e f", "a b c d e g", 3 / 5),
        ("a b c a b c a b c", "a b c a", 2 / 3),  # a set: how often a shingle stands does not count
        ("他昨天在市场上", "他昨天在市场里", 4 / 6),  # a character is a word
        ("", "", 0.0),
        ("!!! ?", "\u2764\ufe0f \U0001f600", 0.0),  # no words
        ("कि खि गि घि", "का खा गा घा", 0.0),  # a vowel sign belongs to its word
        ("के खे गे घे चे", "के खे गे घे", 2 / 3),
    ],
)
def test_the_similarity_is_that_of_the_sets_of_three_words(text, other, similarity):
    assert shingle_similarity(shingles(text), shingles(other)) == pytest.approx(similarity)


def test_texts_after_different_system_messages_have_no_shingle_in_common():
    texts, hashes = ["one two three four five"] * 3, [text_sha256("")] * 3
    first, second, third = np.split(signatures_of(texts, hashes, ["a", "b", "a"]).shingle_hashes, 3)
    assert shingle_similarity(first, second) == 0.0 and shingle_similarity(first, third) == 1.0
    assert (signatures_of(texts[:1], hashes[:1], [""]).shingle_hashes == shingles(texts[0])).all()
